#!/usr/bin/env python3
"""Exchanges the identity of a workflow's job (OIDC) for short-lived credentials of a role at AWS.

    scripts/deploy/aws_role.py --role arn:aws:iam::…:role/… --region eu-central-1 [--seconds 7200]

For a Pulumi state that lies in S3: no long-lived key is stored anywhere. The job needs `id-token: write`; the
role trusts GitHub's issuer for this repository and environment, and may read and write the bucket alone. The
credentials are masked in logs and handed to the following steps ($GITHUB_ENV); they end by themselves.

Exit status: 1 there are none, 2 wrong usage. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

AUDIENCE = "sts.amazonaws.com"
TIMEOUT = 30.0
MAX_ANSWER = 64 * 1024
MEMBERS = {
    "AccessKeyId": "AWS_ACCESS_KEY_ID",
    "SecretAccessKey": "AWS_SECRET_ACCESS_KEY",
    "SessionToken": "AWS_SESSION_TOKEN",
}
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")


class NoCredentials(Exception):
    """There are none. The text says why, and holds nothing secret."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Get credentials and hand them on; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="aws_role.py", description="Take a role at AWS as this job.")
    parser.add_argument("--role", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--seconds", type=int, default=7_200, help="as long as a roll-out may take")
    parser.add_argument("--sts", help="another address than that of the region, for tests")
    options = parser.parse_args(arguments)
    try:
        if not _ROLE.fullmatch(options.role) or not _REGION.fullmatch(options.region):
            raise NoCredentials("that is no role, or no region")
        sts = options.sts or f"https://sts.{options.region}.amazonaws.com/"
        credentials = take_role(sts, options.role, identity(), options.seconds)
        hand_on({**credentials, "AWS_REGION": options.region})
    except NoCredentials as error:
        sys.stderr.write(f"aws_role.py: {error}\n")
        return 1
    return 0


def identity() -> str:
    """A token that says which job this is, for AWS alone. Raises `NoCredentials`."""
    try:
        url = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"]
        bearer = os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    except KeyError:
        raise NoCredentials("this job has no identity: it needs `id-token: write`") from None
    asked = f"{url}{'&' if '?' in url else '?'}audience={AUDIENCE}"
    # The address is the runner's own.
    request = urllib.request.Request(asked, headers={"Authorization": f"bearer {bearer}"})  # noqa: S310
    try:
        return str(json.loads(_answer(request, "GitHub"))["value"])
    except (ValueError, KeyError, TypeError):
        raise NoCredentials("GitHub gave no token") from None


def take_role(sts: str, role: str, token: str, seconds: int) -> dict[str, str]:
    """The credentials, by the names of their variables. Raises `NoCredentials`."""
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": f"wws-{os.environ.get('GITHUB_RUN_ID', 'deploy')}",
        "WebIdentityToken": token,
        "DurationSeconds": str(seconds),
    }
    request = urllib.request.Request(sts, data=urllib.parse.urlencode(form).encode("ascii"))  # noqa: S310
    said = _answer(request, "AWS")
    found = {}
    for member, variable in MEMBERS.items():
        match = re.search(rf"<{member}>([A-Za-z0-9+/=]+)</{member}>", said)
        if match is None:
            raise NoCredentials(f"AWS gave no {member}")
        found[variable] = match[1]
    return found


def hand_on(variables: dict[str, str]) -> None:
    """To the steps that follow, and to no log."""
    for name, value in variables.items():
        if name != "AWS_REGION":
            sys.stdout.write(f"::add-mask::{value}\n")
    target = os.environ.get("GITHUB_ENV")
    if target is None:
        raise NoCredentials("there is no $GITHUB_ENV to hand them on by")
    with open(target, "a", encoding="utf-8") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())


def _answer(request: urllib.request.Request, who: str) -> str:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            data: bytes = answer.read(MAX_ANSWER)
    except urllib.error.HTTPError as error:
        code = re.search(r"<Code>([A-Za-z]+)</Code>", error.read(MAX_ANSWER).decode("utf-8", "replace"))
        raise NoCredentials(f"{who} refuses: {error.code}{' ' + code[1] if code else ''}") from None
    except OSError as error:
        raise NoCredentials(f"{who} cannot be asked: {error}") from None
    return data.decode("utf-8", "replace")


if __name__ == "__main__":
    raise SystemExit(main())
