"""The driver's rooms: slixmpp's xep_0045."""

import asyncio

from slixmpp import JID
from slixmpp.exceptions import PresenceError
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath

from messages import describe
from wire import emit

HOW = {301: "banned", 307: "kicked"}


class Rooms:
    """A part of the driver; `self.xmpp` is the client. The plugin is there from the first room on: it brings others with it,
    by which a message may be taken and yet be lost when the connection goes (it waits for them before it is counted).
    """

    def begin_rooms(self):
        if "xep_0045" in self.xmpp.plugin:
            return
        self.xmpp.register_plugin("xep_0045")
        on = self.xmpp.add_event_handler
        on("groupchat_presence", self.room_presence)
        on("groupchat_message", self.room_message)
        on("groupchat_subject", self.room_subject)
        errors = Callback("room errors", StanzaPath("presence@type=error"), lambda error: self.xmpp.event("room_error", error))
        self.xmpp.register_handler(errors)

    @property
    def muc(self):
        return self.xmpp.plugin["xep_0045"]

    @staticmethod
    def room_presence(presence):
        muc = presence["muc"]
        codes, item = muc["status_codes"], muc.get_plugin("item", check=True)
        event = {"room": muc["room"], "nick": muc["nick"]}
        if 110 in codes:
            event["own"] = True
        if presence["type"] != "unavailable":
            jid = str(item["jid"] or "") or None
            emit("room-occupant", affiliation=item["affiliation"], role=item["role"], jid=jid, **event)
        elif 303 in codes:
            emit("room-renamed", to=muc["item_nick"], **event)
        else:
            how = next((HOW[code] for code in codes & HOW.keys()), "left")
            emit("room-gone", how=how, reason=item["reason"] or None if item is not None else None, **event)

    @staticmethod
    def room_message(message):
        room, nick = message["from"].bare, message["from"].resource
        emit("room-message", room=room, nick=nick, **describe(message, room))

    @staticmethod
    def room_subject(message):
        emit("room-subject", room=message["from"].bare, nick=message["from"].resource, subject=message["subject"])

    async def do_room_join(self, room, nick, history=None):
        self.begin_rooms()
        presence, *_ = await self.muc.join_muc_wait(JID(room), nick, maxstanzas=history, timeout=15)
        emit("room-joined", room=room, nick=presence["from"].resource, created=201 in presence["muc"]["status_codes"])

    async def do_room_leave(self, room):
        self.muc.leave_muc(JID(room), self.muc.our_nicks[None][JID(room)])

    async def do_room_configure(self, room, values):
        form = await self.muc.get_room_config(room)
        form["values"] = form.get_values() | values
        form.reply()
        await self.muc.set_room_config(room, form)
        emit("room-configured", room=room)

    async def do_room_say(self, room, body):
        self.xmpp.make_message(mto=room, mbody=body, mtype="groupchat").send()

    async def do_room_private(self, room, nick, body):
        message = self.xmpp.make_message(mto=f"{room}/{nick}", mbody=body, mtype="chat")
        message.enable("muc")
        message.send()

    async def do_room_subject(self, room, subject):
        self.muc.set_subject(room, subject)

    async def do_room_nick(self, room, nick):
        """The library waits for the new nick alone; a refusal is heard beside it."""
        refused = asyncio.ensure_future(self.xmpp.wait_until("room_error"))
        renamed = asyncio.ensure_future(self.muc.set_self_nick(JID(room), nick))
        done, pending = await asyncio.wait((refused, renamed), return_when=asyncio.FIRST_COMPLETED)
        for other in pending:
            other.cancel()
        if refused in done:
            raise PresenceError(refused.result())

    async def do_room_kick(self, room, nick, reason):
        await self.muc.set_role(room, nick, "none", reason=reason)

    async def do_room_affiliation(self, room, jid, affiliation, reason=""):
        await self.muc.set_affiliation(room, affiliation, jid=jid, reason=reason)
        emit("room-affiliation", room=room, jid=jid)
