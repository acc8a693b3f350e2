"""A Razorpay of our own: its API, its checkout and its webhooks over real HTTP, with every fault to be switched on.

`server.py` is the process, `api.py` what a merchant may ask, `checkout.py` what a payer sees, `book.py` what is true,
`webhooks.py` how it is told, `switches.py` what can go wrong, `refusals.py` how Razorpay says no. Facts about the wire
are those of razorpay.com/docs; time is its own and can be moved forward.
"""
