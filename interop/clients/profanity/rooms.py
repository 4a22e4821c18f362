"""The driver's rooms: Profanity's commands for them, each typed in the room's window, and the stanzas of its log."""

from wire import emit

MUC = "{http://jabber.org/protocol/muc}"
USER, ADMIN, OWNER = (f"{{http://jabber.org/protocol/muc#{name}}}" for name in ("user", "admin", "owner"))
FORM = "{jabber:x:data}"
HOW = {"301": "banned", "307": "kicked"}


class Rooms:
    """A part of the driver, which types and reads the log."""

    def __init__(self):
        self.joins, self.asked_rooms, self.values = {}, {}, {}

    def type_in(self, room, line):
        self.type(f"/win {room}")
        self.type(line)

    async def do_room_join(self, room, nick):
        self.type(f"/join {room} nick {nick}")

    async def do_room_leave(self, room):
        self.type_in(room, "/close")

    async def do_room_configure(self, room, values):
        """The program shows the form that the room sends; it is filled in when that has come."""
        self.values[room] = values
        self.type_in(room, "/room config")

    async def do_room_say(self, room, body):
        self.type_in(room, body)

    async def do_room_private(self, room, nick, body):
        self.type_in(room, f"/msg {nick} {body}")

    async def do_room_subject(self, room, subject):
        self.type_in(room, f'/subject set "{subject}"')

    async def do_room_nick(self, room, nick):
        self.type_in(room, f'/nick "{nick}"')

    async def do_room_kick(self, room, nick, reason):
        self.type_in(room, f'/kick {nick} "{reason}"')

    async def do_room_affiliation(self, room, jid, affiliation, reason=None):
        reason = f' "{reason}"' if reason else ""
        self.type_in(room, f"/ban {jid}{reason}" if affiliation == "outcast" else f"/affiliation set {affiliation} {jid}")

    def room_sent(self, element):
        """Notes what was asked of rooms."""
        name, to, kind = element.tag.split("}")[-1], element.get("to"), element.get("type")
        if name == "presence" and element.find(MUC + "x") is not None and kind is None:
            self.joins[to.split("/")[0]] = {}
        elif name == "iq" and (element.find(OWNER + "query") is not None or element.find(ADMIN + "query/") is not None and kind == "set"):
            self.asked_rooms[element.get("id")] = (to, kind, element.find(ADMIN + "query/"))

    def room_answer(self, iq):
        room, kind, item = self.asked_rooms.pop(iq.get("id"), (None,) * 3)
        if iq.get("type") == "error" and room:
            what = "configure" if item is None else "kick" if item.get("nick") else "affiliation"
            emit("error", do=f"room-{what}", condition=condition(iq))
        elif item is not None and item.get("jid"):
            emit("room-affiliation", room=room, jid=item.get("jid"))
        elif kind == "get":
            self.fill_in(iq.findall(f"{OWNER}query/{FORM}x/{FORM}field"), self.values.pop(room))
        elif kind == "set" and item is None:
            emit("room-configured", room=room)

    def fill_in(self, fields, values):
        """The program numbers what may be filled in, and has words of its own for true and false."""
        shown = [field.get("var") for field in fields if field.get("type") not in ("hidden", "fixed")]
        for name, value in values.items():
            word = {True: "on", False: "off"}.get(value) or f'"{value}"'
            self.type(f"/field{shown.index(name) + 1} {word}")
        self.type("/form submit")

    def room_presence(self, presence):
        """True when it was of a room."""
        room, _, nick = presence.get("from").partition("/")
        user, kind = presence.find(USER + "x"), presence.get("type")
        if kind == "error" and room in self.joins:
            joining = self.joins[room] is not None
            if joining:
                del self.joins[room]
            emit("error", do="room-join" if joining else "room-nick", condition=condition(presence))
            return True
        if user is None:
            return False
        codes = {status.get("code") for status in user.findall(USER + "status")}
        item, own = user.find(USER + "item"), "110" in codes or None
        event = {"room": room, "nick": nick, "own": own}
        if kind != "unavailable":
            emit("room-occupant", **{name: item.get(name) for name in ("affiliation", "role", "jid")}, **event)
            if own and self.joins.get(room) is not None:
                self.joins[room] = {"nick": nick, "created": "201" in codes}
        elif "303" in codes:
            emit("room-renamed", to=item.get("nick"), **event)
        else:
            how = next((HOW[code] for code in codes & HOW.keys()), "left")
            emit("room-gone", how=how, reason=None if item is None else item.findtext(USER + "reason"), **event)
        return True

    def room_message(self, message, event):
        room, _, nick = message.get("from").partition("/")
        subject = message.find("{*}subject")
        if event["body"]:
            item = message.find(f"{USER}x/{USER}item")
            emit("room-message", room=room, nick=nick, jid=None if item is None else item.get("jid"), **event)
        elif subject is not None:
            emit("room-subject", room=room, nick=nick, subject=subject.text or "")
            if joined := self.joins.get(room):
                self.joins[room] = None
                emit("room-joined", room=room, **joined)


def condition(stanza):
    return stanza.find("{*}error")[0].tag.split("}")[-1]
