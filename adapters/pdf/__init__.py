"""Documents as PDF: `render.py` says how they look, `press.py` draws, `sign.py` signs, `ready.py` knows if we can."""
