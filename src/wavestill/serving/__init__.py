"""HTTP and WebSocket service of one voice, and the page that speaks with it."""
