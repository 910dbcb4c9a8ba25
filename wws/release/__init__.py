"""The trust of a release: which keys may sign, what they sign, and how it is verified.

    root key ──signs──► release-keys ──names──► release key ──signs──► SHA256SUMS ──► every file, and MANIFEST
                                                     '────────signs──► channel      (which version is current)

A root key is stamped into every build (`wws.stamp`). All files are ASCII lines with one meaning, so that
`install.sh` reads them with awk; these parsers refuse whatever it would have to guess at. No I/O here.
"""
