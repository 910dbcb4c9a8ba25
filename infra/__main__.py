"""`pulumi up` starts here."""

from wws_infra.stack import deploy

deploy()
