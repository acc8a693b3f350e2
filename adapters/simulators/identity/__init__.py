"""GitHub and Google as providers of identities, on this machine: a page where a person says who they are, and the wires
behind it, with every fault to be switched on.

`server.py` is the process and its doors, `grants.py` what is given for what, `switches.py` what can go wrong. Facts
about the wires are those of docs.github.com/apps/oauth-apps and developers.google.com/identity/openid-connect.
"""
