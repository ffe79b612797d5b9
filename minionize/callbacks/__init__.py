"""What is done with a param: start a program, or call a function."""
