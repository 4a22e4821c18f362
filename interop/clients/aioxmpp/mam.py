"""XEP-0313 in the words of aioxmpp, which has none of it: classes for its elements, on the library's own for data forms,
result sets and forwarded messages. And XEP-0444's reactions.
"""

import aioxmpp
import aioxmpp.forms
import aioxmpp.misc
import aioxmpp.rsm.xso as rsm
import aioxmpp.xso as xso

MAM, REACTIONS, HINTS = "urn:xmpp:mam:2", "urn:xmpp:reactions:0", "urn:xmpp:hints"


@aioxmpp.IQ.as_payload_class
class Query(xso.XSO):
    TAG = MAM, "query"
    queryid = xso.Attr("queryid")
    form = xso.Child([aioxmpp.forms.Data])
    page = xso.Child([rsm.ResultSetMetadata])


class Result(xso.XSO):
    TAG = MAM, "result"
    queryid = xso.Attr("queryid", default=None)
    id_ = xso.Attr("id")
    forwarded = xso.Child([aioxmpp.misc.Forwarded])


@aioxmpp.IQ.as_payload_class
class Fin(xso.XSO):
    TAG = MAM, "fin"
    complete = xso.Attr("complete", type_=xso.Bool(), default=False)
    stable = xso.Attr("stable", type_=xso.Bool(), default=True)
    page = xso.Child([rsm.ResultSetMetadata], required=True)


class Start(xso.XSO):
    TAG = MAM, "start"
    id_ = xso.Attr("id")
    timestamp = xso.Attr("timestamp", type_=xso.DateTime())


class End(Start):
    TAG = MAM, "end"


@aioxmpp.IQ.as_payload_class
class Metadata(xso.XSO):
    TAG = MAM, "metadata"
    start = xso.Child([Start])
    end = xso.Child([End])


class Address(xso.XSO):
    TAG = MAM, "jid"
    value = xso.Text(type_=xso.JID())

    def __init__(self, value=None):
        super().__init__()
        self.value = value


class Always(xso.XSO):
    TAG = MAM, "always"
    jids = xso.ChildList([Address])


class Never(xso.XSO):
    TAG = MAM, "never"
    jids = xso.ChildList([Address])


@aioxmpp.IQ.as_payload_class
class Preferences(xso.XSO):
    TAG = MAM, "prefs"
    default = xso.Attr("default", default=None)
    always = xso.Child([Always])
    never = xso.Child([Never])


class Reaction(xso.XSO):
    TAG = REACTIONS, "reaction"
    value = xso.Text()


class Reactions(xso.XSO):
    TAG = REACTIONS, "reactions"
    id_ = xso.Attr("id")
    reactions = xso.ChildList([Reaction])


aioxmpp.Message.xep0313_result = xso.Child([Result])
aioxmpp.Message.xep0444_reactions = xso.Child([Reactions])
aioxmpp.Message.xep0334_store = xso.ChildFlag((HINTS, "store"))
aioxmpp.Message.xep0334_no_copy = xso.ChildFlag((HINTS, "no-copy"))
aioxmpp.Message.xep0280_private = xso.ChildFlag(("urn:xmpp:carbons:2", "private"))


def query(queryid, max=None, after=None, before=None, **filters):
    """A query with these filters, for one page."""
    made = Query()
    made.queryid = queryid
    made.form = aioxmpp.forms.Data(aioxmpp.forms.DataType.SUBMIT)
    fields = {"FORM_TYPE": [MAM]}
    for name, value in filters.items():
        fields[name.replace("_", "-")] = value if isinstance(value, list) else [value]
    for name, values in fields.items():
        kind = aioxmpp.forms.FieldType.HIDDEN if name == "FORM_TYPE" else None
        made.form.fields.append(aioxmpp.forms.Field(var=name, type_=kind, values=values))
    if max is not None or after or before is not None:
        made.page = rsm.ResultSetMetadata.limit(max)
        made.page.after = rsm.After(after) if after else None
        made.page.before = rsm.Before(before or None) if before is not None else None
    return made


def preferences(default, always, never):
    made = Preferences()
    made.default, made.always, made.never = default, Always(), Never()
    for listed, jids in ((made.always, always), (made.never, never)):
        listed.jids.extend(Address(aioxmpp.JID.fromstr(jid)) for jid in jids)
    return made


def reactions(ref, emojis):
    made = Reactions()
    made.id_ = ref
    for emoji in emojis:
        reaction = Reaction()
        reaction.value = emoji
        made.reactions.append(reaction)
    return made
