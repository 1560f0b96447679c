"""Exit with 0 if the proxy in this container accepts requests. Docker runs this every 10 s."""

import os
import sys
import urllib.request

url = f"http://127.0.0.1:{os.environ.get('CCPROXY_PORT', '8080')}/readyz"
# Without the HTTP proxy of the environment: the address is in this container.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(url, timeout=2) as answer:
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"{url}: {error}")
