"""Entries of the table as containers: files for Compose, Helm and Kubernetes."""
