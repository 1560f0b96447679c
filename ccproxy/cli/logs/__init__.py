"""Reading the workers' log files."""
