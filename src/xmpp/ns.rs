//! XML namespaces, named by function: those of RFC 6120/6121, of the XEPs in the compliance suites (XEP-0479) and of
//! what stands beside them. A namespace that only one module knows may live in that module instead.

// --- RFC 6120: streams, stanzas, SASL, binding -------------------------------------------------------------------

/// `xml:` itself, bound in every document (Namespaces in XML §3).
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// `xmlns:` itself, never to be declared (Namespaces in XML §3).
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
/// The stream element and `<stream:features/>`, `<stream:error/>` (RFC 6120 §4.8.1).
pub const STREAMS: &str = "http://etherx.jabber.org/streams";
/// Content namespace between client and server (RFC 6120 §4.8.2).
pub const CLIENT: &str = "jabber:client";
/// Content namespace between servers (RFC 6120 §4.8.2).
pub const SERVER: &str = "jabber:server";
/// STARTTLS (RFC 6120 §5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 §6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding (RFC 6120 §7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Session establishment of RFC 3921 §3, kept as an optional no-op.
pub const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// Stream error conditions (RFC 6120 §4.9).
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Stanza error conditions (RFC 6120 §8.3).
pub const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// WebSocket framing (RFC 7395).
pub const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";

// --- RFC 6121: roster, presence ----------------------------------------------------------------------------------

/// Roster (RFC 6121 §2).
pub const ROSTER: &str = "jabber:iq:roster";
/// Stream feature: roster versioning (RFC 6121 §2.6).
pub const ROSTER_VER: &str = "urn:xmpp:features:rosterver";
/// Stream feature: subscription pre-approval (RFC 6121 §3.4).
pub const PRE_APPROVAL: &str = "urn:xmpp:features:pre-approval";

// --- Stream features and sessions --------------------------------------------------------------------------------

/// XEP-0198: Stream Management.
pub const SM: &str = "urn:xmpp:sm:3";
/// XEP-0352: Client State Indication.
pub const CSI: &str = "urn:xmpp:csi:0";
/// XEP-0386: Bind 2.
pub const BIND2: &str = "urn:xmpp:bind:0";
/// XEP-0388: Extensible SASL Profile.
pub const SASL2: &str = "urn:xmpp:sasl:2";
/// XEP-0397: Instant Stream Resumption.
pub const ISR: &str = "https://xmpp.org/extensions/isr/0";
/// XEP-0440: SASL Channel-Binding Type Capability.
pub const SASL_CB: &str = "urn:xmpp:sasl-cb:0";
/// XEP-0474: SASL SCRAM Downgrade Protection.
pub const SCRAM_DOWNGRADE: &str = "urn:xmpp:ssdp:0";
/// XEP-0480: SASL Upgrade Tasks.
pub const SASL_UPGRADE: &str = "urn:xmpp:sasl:upgrade:0";
/// XEP-0484: Fast Authentication Streamlining Tokens.
pub const FAST: &str = "urn:xmpp:fast:0";
/// XEP-0478: Stream Limits Advertisement.
pub const STREAM_LIMITS: &str = "urn:xmpp:stream-limits:0";
/// XEP-0205: application-specific condition for denial-of-service limits (`stanza-too-big`, `too-many-stanzas`).
pub const ERRORS: &str = "urn:xmpp:errors";
/// XEP-0114: Jabber Component Protocol.
pub const COMPONENT: &str = "jabber:component:accept";
/// XEP-0220: Server Dialback.
pub const DIALBACK: &str = "jabber:server:dialback";
/// XEP-0220: stream feature of dialback.
pub const DIALBACK_FEATURE: &str = "urn:xmpp:features:dialback";
/// XEP-0288: Bidirectional Server-to-Server Connections.
pub const BIDI: &str = "urn:xmpp:bidi";
/// XEP-0288: stream feature of bidirectional connections.
pub const BIDI_FEATURE: &str = "urn:xmpp:features:bidi";
/// XEP-0124: Bidirectional-streams Over Synchronous HTTP.
pub const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
/// XEP-0206: XMPP Over BOSH.
pub const XBOSH: &str = "urn:xmpp:xbosh";
/// XEP-0156: alternative connections, link relation of BOSH.
pub const ALT_BOSH: &str = "urn:xmpp:alt-connections:xbosh";
/// XEP-0156: alternative connections, link relation of WebSocket.
pub const ALT_WEBSOCKET: &str = "urn:xmpp:alt-connections:websocket";
/// Host metadata documents (RFC 6415), which XEP-0156 uses.
pub const XRD: &str = "http://docs.oasis-open.org/ns/xri/xrd-1.0";

// --- Discovery ---------------------------------------------------------------------------------------------------

/// XEP-0030: Service Discovery, information.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// XEP-0030: Service Discovery, items.
pub const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";
/// XEP-0115: Entity Capabilities.
pub const CAPS: &str = "http://jabber.org/protocol/caps";
/// XEP-0115 §6.3: a server that strips unchanged caps.
pub const CAPS_OPTIMIZE: &str = "http://jabber.org/protocol/caps#optimize";
/// XEP-0390: Entity Capabilities 2.0.
pub const CAPS2: &str = "urn:xmpp:caps";
/// XEP-0390: a server that strips unchanged caps.
pub const CAPS2_OPTIMIZE: &str = "urn:xmpp:caps:optimize";
/// XEP-0300: Use of Cryptographic Hash Functions.
pub const HASHES: &str = "urn:xmpp:hashes:2";
/// XEP-0215: External Service Discovery.
pub const EXT_DISCO: &str = "urn:xmpp:extdisco:2";
/// XEP-0157: FORM_TYPE of contact addresses.
pub const SERVER_INFO: &str = "http://jabber.org/network/serverinfo";
/// XEP-0232: FORM_TYPE of software information.
pub const SOFTWARE_INFO: &str = "urn:xmpp:dataforms:softwareinfo";
/// XEP-0092: Software Version.
pub const VERSION: &str = "jabber:iq:version";
/// XEP-0199: XMPP Ping.
pub const PING: &str = "urn:xmpp:ping";
/// XEP-0202: Entity Time.
pub const TIME: &str = "urn:xmpp:time";
/// XEP-0012: Last Activity.
pub const LAST: &str = "jabber:iq:last";
/// XEP-0319: Last User Interaction in Presence.
pub const IDLE: &str = "urn:xmpp:idle:1";

// --- Building blocks ---------------------------------------------------------------------------------------------

/// XEP-0004: Data Forms.
pub const X_DATA: &str = "jabber:x:data";
/// XEP-0122: Data Forms Validation.
pub const X_DATA_VALIDATE: &str = "http://jabber.org/protocol/xdata-validate";
/// XEP-0221: Data Forms Media Element.
pub const X_DATA_MEDIA: &str = "urn:xmpp:media-element";
/// XEP-0059: Result Set Management.
pub const RSM: &str = "http://jabber.org/protocol/rsm";
/// XEP-0413: Order-By.
pub const ORDER_BY: &str = "urn:xmpp:order-by:1";
/// XEP-0050: Ad-Hoc Commands.
pub const COMMANDS: &str = "http://jabber.org/protocol/commands";
/// XEP-0133: Service Administration; node names append `#add-user` and the like.
pub const ADMIN: &str = "http://jabber.org/protocol/admin";
/// XEP-0066: Out of Band Data, in a message.
pub const OOB: &str = "jabber:x:oob";
/// XEP-0066: Out of Band Data, as a request.
pub const OOB_IQ: &str = "jabber:iq:oob";
/// XEP-0131: Stanza Headers and Internet Metadata.
pub const SHIM: &str = "http://jabber.org/protocol/shim";
/// XEP-0203: Delayed Delivery.
pub const DELAY: &str = "urn:xmpp:delay";
/// XEP-0091: Legacy Delayed Delivery, only to be stripped.
pub const DELAY_LEGACY: &str = "jabber:x:delay";
/// XEP-0297: Stanza Forwarding.
pub const FORWARD: &str = "urn:xmpp:forward:0";
/// XEP-0033: Extended Stanza Addressing.
pub const ADDRESS: &str = "http://jabber.org/protocol/address";
/// XEP-0231: Bits of Binary.
pub const BOB: &str = "urn:xmpp:bob";

// --- Accounts ----------------------------------------------------------------------------------------------------

/// XEP-0077: In-Band Registration.
pub const REGISTER: &str = "jabber:iq:register";
/// XEP-0077: stream feature of registration.
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// XEP-0401: Ad-hoc Account Invitation Generation.
pub const INVITE: &str = "urn:xmpp:invite";
/// XEP-0445: Pre-Authenticated In-Band Registration.
pub const PARS: &str = "urn:xmpp:pars:0";
/// XEP-0445: stream feature of invitation-based registration.
pub const REGISTER_IBR_TOKEN: &str = "urn:xmpp:ibr-token:0";
/// XEP-0389: Extensible In-Band Registration.
pub const EXT_REGISTER: &str = "urn:xmpp:register:0";
/// XEP-0158: CAPTCHA Forms.
pub const CAPTCHA: &str = "urn:xmpp:captcha";
/// XEP-0191: Blocking Command.
pub const BLOCKING: &str = "urn:xmpp:blocking";
/// XEP-0191: application-specific condition `<blocked/>`.
pub const BLOCKING_ERRORS: &str = "urn:xmpp:blocking:errors";
/// XEP-0377: Spam Reporting.
pub const REPORTING: &str = "urn:xmpp:reporting:1";
/// XEP-0377: report reason "spam".
pub const REPORTING_SPAM: &str = "urn:xmpp:reporting:spam";
/// XEP-0377: report reason "abuse".
pub const REPORTING_ABUSE: &str = "urn:xmpp:reporting:abuse";
/// XEP-0049: Private XML Storage.
pub const PRIVATE: &str = "jabber:iq:private";
/// XEP-0048: Bookmarks, in private storage or PEP.
pub const BOOKMARKS_LEGACY: &str = "storage:bookmarks";
/// XEP-0402: PEP Native Bookmarks.
pub const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";
/// XEP-0411: Bookmarks Conversion.
pub const BOOKMARKS_CONVERSION: &str = "urn:xmpp:bookmarks-conversion:0";
/// XEP-0054: vcard-temp.
pub const VCARD: &str = "vcard-temp";
/// XEP-0153: vCard-Based Avatars, in presence.
pub const VCARD_UPDATE: &str = "vcard-temp:x:update";
/// XEP-0292: vCard4 over XMPP.
pub const VCARD4: &str = "urn:ietf:params:xml:ns:vcard-4.0";
/// XEP-0398: User Avatar to vCard-Based Avatars Conversion.
pub const AVATAR_CONVERSION: &str = "urn:xmpp:pep-vcard-conversion:0";
/// XEP-0084: User Avatar, the image.
pub const AVATAR_DATA: &str = "urn:xmpp:avatar:data";
/// XEP-0084: User Avatar, what is known of it.
pub const AVATAR_METADATA: &str = "urn:xmpp:avatar:metadata";
/// XEP-0172: User Nickname.
pub const NICK: &str = "http://jabber.org/protocol/nick";
/// XEP-0055: Jabber Search.
pub const SEARCH: &str = "jabber:iq:search";
/// XEP-0144: Roster Item Exchange.
pub const ROSTER_EXCHANGE: &str = "http://jabber.org/protocol/rosterx";
/// XEP-0283: Moved.
pub const MOVED: &str = "urn:xmpp:moved:1";
/// XEP-0355: Namespace Delegation.
pub const DELEGATION: &str = "urn:xmpp:delegation:2";
/// XEP-0356: Privileged Entity.
pub const PRIVILEGE: &str = "urn:xmpp:privilege:2";
/// XEP-0016: Privacy Lists, answered only to say that they are not there.
pub const PRIVACY: &str = "jabber:iq:privacy";
/// XEP-0490: Message Displayed Synchronization.
pub const MDS: &str = "urn:xmpp:mds:displayed:0";

// --- Messages ----------------------------------------------------------------------------------------------------

/// XEP-0280: Message Carbons.
pub const CARBONS: &str = "urn:xmpp:carbons:2";
/// XEP-0280: feature of the recommended eligibility rules.
pub const CARBONS_RULES: &str = "urn:xmpp:carbons:rules:0";
/// XEP-0313: Message Archive Management.
pub const MAM: &str = "urn:xmpp:mam:2";
/// XEP-0313: extended query fields, archive metadata, flipped pages.
pub const MAM_EXTENDED: &str = "urn:xmpp:mam:2#extended";
/// XEP-0313: the field `include-groupchat` is understood.
pub const MAM_GROUPCHAT_FIELD: &str = "urn:xmpp:mam:2#groupchat-field";
/// XEP-0431: Full Text Search in MAM.
pub const FULLTEXT: &str = "urn:xmpp:fulltext:0";
/// XEP-0160: feature of offline messages.
pub const MSGOFFLINE: &str = "msgoffline";
/// XEP-0013: Flexible Offline Message Retrieval.
pub const OFFLINE: &str = "http://jabber.org/protocol/offline";
/// XEP-0359: Unique and Stable Stanza IDs.
pub const SID: &str = "urn:xmpp:sid:0";
/// XEP-0334: Message Processing Hints.
pub const HINTS: &str = "urn:xmpp:hints";
/// XEP-0085: Chat State Notifications.
pub const CHATSTATES: &str = "http://jabber.org/protocol/chatstates";
/// XEP-0184: Message Delivery Receipts.
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// XEP-0333: Displayed Markers.
pub const MARKERS: &str = "urn:xmpp:chat-markers:0";
/// XEP-0308: Last Message Correction.
pub const CORRECT: &str = "urn:xmpp:message-correct:0";
/// XEP-0424: Message Retraction.
pub const RETRACT: &str = "urn:xmpp:message-retract:1";
/// XEP-0425: Moderated Message Retraction.
pub const MODERATE: &str = "urn:xmpp:message-moderate:1";
/// XEP-0422: Message Fastening.
pub const FASTEN: &str = "urn:xmpp:fasten:0";
/// XEP-0428: Fallback Indication.
pub const FALLBACK: &str = "urn:xmpp:fallback:0";
/// XEP-0444: Message Reactions.
pub const REACTIONS: &str = "urn:xmpp:reactions:0";
/// XEP-0461: Message Replies.
pub const REPLY: &str = "urn:xmpp:reply:0";
/// XEP-0380: Explicit Message Encryption.
pub const EME: &str = "urn:xmpp:eme:0";
/// XEP-0384: OMEMO Encryption.
pub const OMEMO: &str = "urn:xmpp:omemo:2";
/// XEP-0384: OMEMO Encryption as first deployed.
pub const OMEMO_LEGACY: &str = "eu.siacs.conversations.axolotl";
/// XEP-0373: OpenPGP for XMPP.
pub const OPENPGP: &str = "urn:xmpp:openpgp:0";
/// XEP-0027: Current Jabber OpenPGP Usage.
pub const OPENPGP_LEGACY: &str = "jabber:x:encrypted";
/// XEP-0353: Jingle Message Initiation.
pub const JINGLE_MESSAGE: &str = "urn:xmpp:jingle-message:0";
/// XEP-0166: Jingle.
pub const JINGLE: &str = "urn:xmpp:jingle:1";
/// XEP-0224: Attention.
pub const ATTENTION: &str = "urn:xmpp:attention:0";
/// XEP-0357: Push Notifications.
pub const PUSH: &str = "urn:xmpp:push:0";
/// XEP-0357: FORM_TYPE of the summary of a notification.
pub const PUSH_SUMMARY: &str = "urn:xmpp:push:summary";
/// XEP-0079: Advanced Message Processing.
pub const AMP: &str = "http://jabber.org/protocol/amp";

// --- Rooms -------------------------------------------------------------------------------------------------------

/// XEP-0045: Multi-User Chat.
pub const MUC: &str = "http://jabber.org/protocol/muc";
/// XEP-0045: what the room says of occupants.
pub const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
/// XEP-0045: moderation and membership.
pub const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
/// XEP-0045: the room's configuration and end.
pub const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
/// XEP-0045: FORM_TYPE of the room's configuration.
pub const MUC_ROOMCONFIG: &str = "http://jabber.org/protocol/muc#roomconfig";
/// XEP-0045: FORM_TYPE of the room's disco extension.
pub const MUC_ROOMINFO: &str = "http://jabber.org/protocol/muc#roominfo";
/// XEP-0045: FORM_TYPE of a request for voice.
pub const MUC_REQUEST: &str = "http://jabber.org/protocol/muc#request";
/// XEP-0045: FORM_TYPE of registration with a room.
pub const MUC_REGISTER: &str = "http://jabber.org/protocol/muc#register";
/// XEP-0045 §10.1.4: unique room names.
pub const MUC_UNIQUE: &str = "http://jabber.org/protocol/muc#unique";
/// XEP-0045: stable ids in reflected messages.
pub const MUC_STABLE_ID: &str = "http://jabber.org/protocol/muc#stable_id";
/// XEP-0045 §6.7: which rooms a user is in.
pub const MUC_ROOMS: &str = "http://jabber.org/protocol/muc#rooms";
/// XEP-0045 §6.6: the nickname reserved for a user.
pub const MUC_ROOMUSER_ITEM: &str = "x-roomuser-item";
/// XEP-0249: Direct MUC Invitations.
pub const CONFERENCE: &str = "jabber:x:conference";
/// XEP-0410: MUC Self-Ping, the room's optimisation.
pub const MUC_SELF_PING: &str = "http://jabber.org/protocol/muc#self-ping-optimization";
/// XEP-0421: Occupant identifiers.
pub const OCCUPANT_ID: &str = "urn:xmpp:occupant-id:0";
/// XEP-0317: Hats.
pub const HATS: &str = "urn:xmpp:hats:0";
/// XEP-0433: Extended Channel Search.
pub const CHANNEL_SEARCH: &str = "urn:xmpp:channel-search:0:search";
/// XEP-0437: Room Activity Indicators.
pub const RAI: &str = "urn:xmpp:rai:0";
/// XEP-0463: MUC Affiliations Versioning.
pub const MUC_AFFILIATIONS: &str = "urn:xmpp:muc:affiliations:1";
/// XEP-0372: References.
pub const REFERENCE: &str = "urn:xmpp:reference:0";
/// XEP-0488: MUC Token Invite.
pub const MUC_TOKENS: &str = "urn:xmpp:muc-token-invite:0";

// --- Publish-subscribe -------------------------------------------------------------------------------------------

/// XEP-0060: Publish-Subscribe.
pub const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// XEP-0060: what only a node's owner may ask.
pub const PUBSUB_OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
/// XEP-0060: notifications.
pub const PUBSUB_EVENT: &str = "http://jabber.org/protocol/pubsub#event";
/// XEP-0060: application-specific error conditions.
pub const PUBSUB_ERRORS: &str = "http://jabber.org/protocol/pubsub#errors";
/// XEP-0060: FORM_TYPE of a node's configuration.
pub const PUBSUB_NODE_CONFIG: &str = "http://jabber.org/protocol/pubsub#node_config";
/// XEP-0060: FORM_TYPE of what is known of a node.
pub const PUBSUB_META_DATA: &str = "http://jabber.org/protocol/pubsub#meta-data";
/// XEP-0060: FORM_TYPE of the options of a publication.
pub const PUBSUB_PUBLISH_OPTIONS: &str = "http://jabber.org/protocol/pubsub#publish-options";
/// XEP-0060: FORM_TYPE of the options of a subscription.
pub const PUBSUB_SUBSCRIBE_OPTIONS: &str = "http://jabber.org/protocol/pubsub#subscribe_options";
/// XEP-0060: FORM_TYPE of the request to authorise a subscription.
pub const PUBSUB_SUBSCRIBE_AUTHORIZATION: &str = "http://jabber.org/protocol/pubsub#subscribe_authorization";

// --- HTTP and file transfer --------------------------------------------------------------------------------------

/// XEP-0363: HTTP File Upload.
pub const HTTP_UPLOAD: &str = "urn:xmpp:http:upload:0";
/// XEP-0065: SOCKS5 Bytestreams, for the proxy.
pub const BYTESTREAMS: &str = "http://jabber.org/protocol/bytestreams";
/// XEP-0047: In-Band Bytestreams.
pub const IBB: &str = "http://jabber.org/protocol/ibb";
/// XEP-0070: Verifying HTTP Requests via XMPP.
pub const HTTP_AUTH: &str = "http://jabber.org/protocol/http-auth";
/// XEP-0227: Portable Import/Export Format.
pub const PIE: &str = "urn:xmpp:pie:0";
