"""Parts of the conversion that every dialect shares."""
