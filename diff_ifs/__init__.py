"""Everything behind the commands: fractals fitted to pictures, drawn, filed and compressed."""
