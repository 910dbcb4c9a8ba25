"""What a new server is told at its first boot: its SSH host key, and that keys alone open it.

Everything else is done by the role, over a connection to that key. cloud-init takes YAML, and JSON is YAML;
its reference calls the modules `cc_ssh` and `cc_set_passwords`.

The text holds the private half of the host key, and a server's metadata service gives it to every process of
the server. So the firewall that the role `common` makes lets root alone ask that service.
"""

import json

LONGEST = 32 * 1024
"""What Hetzner takes, in bytes."""


def user_data(private_key: str, public_key: str) -> str:
    """The cloud-config for a server with this host key and no other."""
    config = {
        "ssh_deletekeys": True,  # those that the image may bring
        "ssh_keys": {"ed25519_private": private_key, "ed25519_public": public_key},
        "ssh_genkeytypes": [],
        "ssh_quiet_keygen": True,
        "ssh": {"emit_keys_on_console": False},
        "ssh_pwauth": False,
        "disable_root": False,  # the playbooks begin as root; the role takes it from there
        "chpasswd": {"expire": False},
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"
