"""
Sockets: the TCP ports of the fleet, and the unix sockets through which it is controlled.

    listeners         the listening TCP sockets, bound here and inherited by workers
    unix_socket       paths of control sockets; blocking requests
    unix_server       requests and a server on the event loop
    peer_credentials  the process on the other end of a unix socket
"""
