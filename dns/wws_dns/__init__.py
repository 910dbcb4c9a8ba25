"""The DNS records of a network: planned, refused when unsafe, published, verified, and a way back.

How a change goes, and which module to read::

    desired      what the operator wants: records.toml, or what a stack gives
       │            looking      what DNS serves, what the history says was published
       ▼            old_clients  who is out there, and what each would take
    planning ◄──    vouching     which keys and lists the past may speak for
       │            forgotten    what a lost history would have told
       │            safety       what is dangerous though every client would take it
       ▼
    plan ──► signing (perhaps on another machine) ──► publishing ──► provider: rfc2136, cloudflare, zone_file

`verify` looks from outside, `rotation` changes publisher keys; `commands/` has a module for each verb.
"""
