"""History, inspector and session switches."""
