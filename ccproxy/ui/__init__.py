"""
The web page of `ccproxy ui`, served by a separate process that starts and ends with the command.

    __main__             listens on loopback and prints a link with a one-time code
    sign_in              one-time codes and sessions
    browser_guard        which browser requests are accepted, and the headers of every response
    bundle               the static files of the page
    web_app              the routes
    fleet_feed           follows the fleet once and sends it to every open page
    page_data            the data of the views
    page_actions         the actions of their buttons, which call the command line's functions
    conversation_blocks  the blocks of an inspected request and their tokens

The process reads the workers' control sockets and the files of the fleet; workers serve it in the
same way as `ccproxy top`.
"""
