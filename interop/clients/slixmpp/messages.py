"""What slixmpp finds in a message, as the fields of an event."""


def describe(stanza, account=None):
    """What the library finds in a message; ids of this account (or room) only."""
    def plugin(name, key):
        found = stanza.get_plugin(name, check=True)
        return found[key] if found is not None else None

    event = {
        "from": str(stanza["from"]), "to": str(stanza["to"]), "id": stanza["id"], "body": stanza["body"] or None,
        "origin": plugin("origin_id", "id"), "replaces": plugin("replace", "id"),
        "delayed": "delay" if stanza.get_plugin("delay", check=True) else None,
    }
    if (muc := stanza.get_plugin("muc", check=True)) is not None:
        event["jid"] = str(muc["jid"]) or None
    if plugin("stanza_id", "by") == account:
        event["sid"] = plugin("stanza_id", "id")
    for kind, name, key in (("received", "receipt", "receipt"), ("displayed", "displayed", "id"), ("reactions",) * 2 + ("id",)):
        if ref := plugin(name, key):
            event |= {"kind": kind, "ref": ref}
    if event.get("kind") == "reactions":
        event["emojis"] = sorted(stanza["reactions"]["values"])
    return {name: value for name, value in event.items() if value is not None}
