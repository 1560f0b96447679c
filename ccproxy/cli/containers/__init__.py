"""Container files for entries of the table: Compose, Helm and Kubernetes."""
