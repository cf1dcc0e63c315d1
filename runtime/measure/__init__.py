"""Speed and fidelity of models, and what works on this machine."""
