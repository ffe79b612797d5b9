"""What people see of a queue and its report: reading events, adding them up, drawing."""
