"""What the service managers of operating systems want to be told; texts only, nothing is run."""
