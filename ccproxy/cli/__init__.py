"""One file per verb: reads options, calls one function, prints."""
