"""The driver's rooms: aioxmpp's MUCClient, which tells of a room by its signals."""

import aioxmpp
import aioxmpp.errors
import aioxmpp.muc
import aioxmpp.muc.xso as muc_xso
from aioxmpp.muc.service import LeaveMode

from messages import describe
from wire import emit

HOW = {LeaveMode.KICKED: "kicked", LeaveMode.BANNED: "banned", LeaveMode.NORMAL: "left"}
OPTIONS = "muc#roomconfig_"


class Rooms:
    """A part of the driver; `self.client` is the client. The service is begun with the first room: it would switch
    copies on (XEP-0280) if it were there at the login.
    """

    muc = None
    renaming = None

    def begin_rooms(self):
        if not self.muc:
            self.muc, self.rooms = self.client.summon(aioxmpp.MUCClient), {}
            presences = self.client.summon(aioxmpp.dispatcher.SimplePresenceDispatcher)
            presences.register_callback(aioxmpp.PresenceType.ERROR, None, self.room_error)

    def room_error(self, presence):
        """The library tells of joins that fail, but not of other presence."""
        if self.renaming == presence.from_.bare():
            self.renaming = None
            emit("error", do="room-nick", condition=presence.error.condition.value[1])

    async def do_room_join(self, room, nick, history=None):
        self.begin_rooms()
        asked = None if history is None else muc_xso.History(maxstanzas=history)
        joining, joined = self.muc.join(aioxmpp.JID.fromstr(room), nick, history=asked, autorejoin=False)
        created = self.listen_to_room(room, joining)
        await joined
        self.rooms[room] = joining
        emit("room-joined", room=room, nick=joining.me.nick, created=bool(created))

    @staticmethod
    def listen_to_room(name, room):
        """Returns a list that is not empty once the room is known to be new."""
        created = []

        def here(member, **_):
            jid = str(member.direct_jid) if member.direct_jid else None
            occupant = {"affiliation": member.affiliation, "role": member.role, "jid": jid}
            emit("room-occupant", room=name, nick=member.nick, own=member is room.me or None, **occupant)

        def entered(presence, occupant, muc_status_codes=(), **_):
            created.extend(code for code in muc_status_codes if code == muc_xso.StatusCode.CREATED)
            here(occupant)

        def gone(member, muc_leave_mode=None, muc_reason=None, **_):
            if muc_leave_mode != LeaveMode.DISCONNECTED:
                own = member is room.me or None
                emit("room-gone", room=name, nick=member.nick, how=HOW.get(muc_leave_mode, str(muc_leave_mode)), reason=muc_reason, own=own)

        def renamed(member, old_nick, new_nick, **_):
            emit("room-renamed", room=name, nick=old_nick, to=new_nick, own=member is room.me or None)

        def subject(member, new_topic, muc_nick=None, **_):
            emit("room-subject", room=name, nick=muc_nick or "", subject=new_topic.any() or "")

        def heard(message, *_, **__):
            emit("room-message", room=name, nick=message.from_.resource, **describe(message, aioxmpp.JID.fromstr(name)))

        room.on_muc_enter.connect(entered)
        room.on_join.connect(here)
        room.on_leave.connect(gone)
        room.on_exit.connect(lambda **how: gone(room.me, **how))
        room.on_nick_changed.connect(renamed)
        room.on_topic_changed.connect(subject)
        room.on_message.connect(heard)
        return created

    async def do_room_leave(self, room):
        await self.rooms.pop(room).leave()

    async def do_room_configure(self, room, values):
        jid = aioxmpp.JID.fromstr(room)
        form = aioxmpp.muc.ConfigurationForm.from_xso(await self.muc.get_room_config(jid))
        for name, value in values.items():
            getattr(form, name.removeprefix(OPTIONS)).value = value
        await self.muc.set_room_config(jid, form.render_reply())
        emit("room-configured", room=room)

    async def do_room_say(self, room, body):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.GROUPCHAT)
        message.body[None] = body
        self.rooms[room].send_message(message)

    async def do_room_private(self, room, nick, body):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=aioxmpp.JID.fromstr(room).replace(resource=nick))
        message.body[None] = body
        message.xep0045_muc_user = muc_xso.UserExt()
        self.client.enqueue(message)

    async def do_room_subject(self, room, subject):
        await self.rooms[room].set_topic({None: subject})

    async def do_room_nick(self, room, nick):
        self.renaming = aioxmpp.JID.fromstr(room)
        await self.rooms[room].set_nick(nick)

    async def do_room_kick(self, room, nick, reason):
        member = next(member for member in self.rooms[room].members if member.nick == nick)
        await self.rooms[room].kick(member, reason)

    async def do_room_affiliation(self, room, jid, affiliation, reason=None):
        await self.rooms[room].muc_set_affiliation(aioxmpp.JID.fromstr(jid), affiliation, reason=reason)
        emit("room-affiliation", room=room, jid=jid)
