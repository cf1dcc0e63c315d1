"""Speed and fidelity of models, and a check of what works on this machine."""
