"""What aioxmpp finds in a message, as the fields of an event."""

import aioxmpp.misc as misc
import aioxmpp.muc  # which adds its part to messages


def describe(stanza, account=None):
    """What the library finds in a message; ids of this account (or room) only."""
    event = {
        "from": str(stanza.from_ or ""), "to": str(stanza.to), "id": stanza.id_,
        "body": stanza.body.any() if stanza.body else None,
        "origin": stanza.xep0359_origin_id and stanza.xep0359_origin_id.id_,
        "replaces": stanza.xep0308_replace and stanza.xep0308_replace.id_,
        "delayed": "delay" if stanza.xep0203_delay else None,
        "sid": next((i.id_ for i in stanza.xep0359_stanza_ids if i.by == account), None),
    }
    if stanza.xep0045_muc_user and stanza.xep0045_muc_user.items and (jid := stanza.xep0045_muc_user.items[0].jid):
        event["jid"] = str(jid)
    if received := stanza.xep0184_received:
        event |= {"kind": "received", "ref": received.message_id}
    if isinstance(stanza.xep0333_marker, misc.DisplayedMarker):
        event |= {"kind": "displayed", "ref": stanza.xep0333_marker.id_}
    if reactions := stanza.xep0444_reactions:
        event |= {"kind": "reactions", "ref": reactions.id_, "emojis": sorted(r.value for r in reactions.reactions)}
    return {name: value for name, value in event.items() if value is not None}
