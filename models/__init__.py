"""The demo model that ships with the package; `README.md` beside it is its card."""
