"""
The web page of `ccproxy ui`: a process of its own, which starts and ends with the command.

    __main__             listens on loopback and prints a link with a one-time code
    sign_in              one-time codes and sessions
    browser_guard        which requests of browsers are accepted, and the headers of every response
    bundle               the files of the page, which are static
    web_app              the routes
    fleet_feed           follows the fleet once and sends it to every open page
    page_data            what the views show
    page_actions         what their buttons do, with the functions of the command line
    conversation_blocks  the blocks of an inspected request and their tokens

It reads the workers' control sockets and the files of the fleet; workers do nothing for it that
they do not do for `ccproxy top`.
"""
