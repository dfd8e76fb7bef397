"""The worker's main container: answers the socket, claims attempts, records outcomes."""
