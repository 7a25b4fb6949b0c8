"""The link that an invited person opens."""


def invite_url(page_address: str, token: str) -> str:
    """Returns the link; empty where there is no page.

    The token stands behind ``#``, which browsers keep to themselves: it is in no request line and in no log.
    The page's script moves it into the form.
    """
    return f"{page_address.rstrip('/')}/invite#{token}" if page_address else ""
