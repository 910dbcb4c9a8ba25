"""`pulumi up` starts here."""
