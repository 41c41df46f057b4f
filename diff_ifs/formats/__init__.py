"""Systems as bytes and text: plain numbers, no torch."""
