"""Real servers for the tests, each started by its own module and gone with the test."""
