/* libstrophe (C) behind the line protocol of ../../README.md.
 *
 * The library does not tell its SASL mechanism, why a login was refused, nor whether a stream was resumed; its log of
 * what it sent and received does.
 */

#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strophe.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROSTER "jabber:iq:roster"
#define DISCO "http://jabber.org/protocol/disco#info"

typedef struct json_object json;

static xmpp_ctx_t *ctx;
static xmpp_conn_t *conn;
static int sock = -1;
static char mechanism[64], condition[64], host[256];
static unsigned short port;
static int resumed;
static enum { CONNECTING, ONLINE, DROPPING, RESUMING, QUITTING } phase;
static json *contacts;

static json *event(const char *name)
{
    json *e = json_object_new_object();
    json_object_object_add(e, "ev", json_object_new_string(name));
    return e;
}

static void put(json *e, const char *key, const char *value)
{
    if (value)
        json_object_object_add(e, key, json_object_new_string(value));
}

static void emit(json *e)
{
    puts(json_object_to_json_string_ext(e, JSON_C_TO_STRING_PLAIN));
    json_object_put(e);
}

static void fail(const char *what, const char *why, const char *text)
{
    json *e = event("error");
    put(e, "do", what);
    put(e, "condition", why);
    put(e, "text", text);
    emit(e);
}

static void watch_log(void *userdata, xmpp_log_level_t level, const char *area, const char *line)
{
    const char *at;
    (void)userdata;
    if (level >= XMPP_LEVEL_INFO)
        fprintf(stderr, "%s: %s\n", area, line);
    if ((at = strstr(line, "SENT: <auth")) && (at = strstr(at, "mechanism=\"")))
        sscanf(at, "mechanism=\"%63[^\"]", mechanism);
    if ((at = strstr(line, "RECV: <failure")) && (at = strchr(at, '>')))
        sscanf(at, "><%63[a-z-]", condition);
    if (strstr(line, "RECV: <resumed"))
        resumed = 1;
}

static int note_socket(xmpp_conn_t *c, void *fd)
{
    (void)c;
    sock = *(int *)fd;
    return 0;
}

static void on_connection(xmpp_conn_t *c, xmpp_conn_event_t what, int error, xmpp_stream_error_t *stream, void *data)
{
    (void)error;
    (void)data;
    if (what == XMPP_CONN_CONNECT && phase == RESUMING) {
        if (resumed)
            emit(event("resumed"));
        else
            fail("resume", "", "a new session in place of the old one");
        phase = ONLINE;
    } else if (what == XMPP_CONN_CONNECT) {
        json *e = event("online");
        put(e, "jid", xmpp_conn_get_bound_jid(c));
        put(e, "mechanism", mechanism);
        emit(e);
        phase = ONLINE;
    } else if (phase == DROPPING) {
        emit(event("dropped"));
    } else if (phase == QUITTING) {
        emit(event("bye"));
        exit(0);
    } else {
        fail(phase == CONNECTING ? "connect" : "stay", condition, stream && stream->text ? stream->text : "disconnected");
    }
}

static char *bare(const char *jid)
{
    return xmpp_jid_bare(ctx, jid);
}

static int on_message(xmpp_conn_t *c, xmpp_stanza_t *stanza, void *data)
{
    const char *type = xmpp_stanza_get_type(stanza);
    char *body = xmpp_message_get_body(stanza);
    (void)c;
    (void)data;
    if (type && !strcmp(type, "error")) {
        fail("send", "", "bounced");
    } else if (body) {
        json *e = event("message");
        put(e, "from", xmpp_stanza_get_from(stanza));
        put(e, "id", xmpp_stanza_get_id(stanza));
        put(e, "body", body);
        put(e, "delayed", xmpp_stanza_get_child_by_ns(stanza, "urn:xmpp:delay") ? "delay" : NULL);
        emit(e);
    }
    if (body)
        xmpp_free(ctx, body);
    return 1;
}

static int on_presence(xmpp_conn_t *c, xmpp_stanza_t *stanza, void *data)
{
    const char *type = xmpp_stanza_get_type(stanza);
    (void)c;
    (void)data;
    if (!type || !strcmp(type, "unavailable")) {
        xmpp_stanza_t *status = xmpp_stanza_get_child_by_name(stanza, "status");
        char *text = status ? xmpp_stanza_get_text(status) : NULL;
        json *e = event("presence");
        put(e, "from", xmpp_stanza_get_from(stanza));
        put(e, "type", type ? type : "available");
        put(e, "status", text ? text : "");
        emit(e);
        if (text)
            xmpp_free(ctx, text);
    } else if (!strcmp(type, "subscribe") || !strcmp(type, "subscribed")) {
        char *from = bare(xmpp_stanza_get_from(stanza));
        json *e = event(type);
        put(e, "from", from);
        emit(e);
        xmpp_free(ctx, from);
    }
    return 1;
}

static int on_roster(xmpp_conn_t *c, xmpp_stanza_t *iq, void *data)
{
    xmpp_stanza_t *query = xmpp_stanza_get_child_by_ns(iq, ROSTER);
    xmpp_stanza_t *item = query ? xmpp_stanza_get_children(query) : NULL;
    json *items = json_object_new_array(), *e = event("roster");
    (void)data;
    for (; item; item = xmpp_stanza_get_next(item)) {
        const char *jid = xmpp_stanza_get_attribute(item, "jid");
        const char *subscription = xmpp_stanza_get_attribute(item, "subscription");
        if (jid && subscription)
            json_object_object_add(contacts, jid, json_object_new_string(subscription));
    }
    json_object_object_foreach(contacts, jid, subscription) {
        json *contact = json_object_new_object();
        put(contact, "jid", jid);
        put(contact, "subscription", json_object_get_string(subscription));
        json_object_array_add(items, contact);
    }
    json_object_object_add(e, "items", items);
    emit(e);
    if (!strcmp(xmpp_stanza_get_type(iq), "set")) {
        xmpp_stanza_t *reply = xmpp_iq_new(ctx, "result", xmpp_stanza_get_id(iq));
        xmpp_send(c, reply);
        xmpp_stanza_release(reply);
        return 1;
    }
    return 0;
}

static int on_pong(xmpp_conn_t *c, xmpp_stanza_t *iq, void *data)
{
    (void)c;
    (void)data;
    if (!strcmp(xmpp_stanza_get_type(iq), "result"))
        emit(event("pong"));
    else
        fail("ping", "", "an error came in place of the pong");
    return 0;
}

static int on_info(xmpp_conn_t *c, xmpp_stanza_t *iq, void *data)
{
    xmpp_stanza_t *query = xmpp_stanza_get_child_by_ns(iq, DISCO);
    xmpp_stanza_t *child = query ? xmpp_stanza_get_children(query) : NULL;
    json *features = json_object_new_array(), *identities = json_object_new_array(), *e = event("disco");
    (void)c;
    (void)data;
    for (; child; child = xmpp_stanza_get_next(child)) {
        const char *var = xmpp_stanza_get_attribute(child, "var");
        const char *category = xmpp_stanza_get_attribute(child, "category");
        char identity[256];
        if (var)
            json_object_array_add(features, json_object_new_string(var));
        if (category) {
            snprintf(identity, sizeof identity, "%s/%s", category, xmpp_stanza_get_attribute(child, "type"));
            json_object_array_add(identities, json_object_new_string(identity));
        }
    }
    json_object_object_add(e, "features", features);
    json_object_object_add(e, "identities", identities);
    emit(e);
    return 0;
}

static void dial(void)
{
    if (xmpp_connect_client(conn, host, port, on_connection, NULL) != XMPP_EOK)
        fail("connect", "", "no connection");
}

static const char *get(json *command, const char *key)
{
    json *value;
    return json_object_object_get_ex(command, key, &value) ? json_object_get_string(value) : NULL;
}

static void connect_client(json *command)
{
    char jid[512];
    snprintf(jid, sizeof jid, "%s/strophe", get(command, "jid"));
    snprintf(host, sizeof host, "%s", get(command, "host"));
    port = (unsigned short)atoi(get(command, "port"));
    conn = xmpp_conn_new(ctx);
    xmpp_conn_set_jid(conn, jid);
    xmpp_conn_set_pass(conn, get(command, "password"));
    xmpp_conn_set_cafile(conn, get(command, "ca"));
    xmpp_conn_set_flags(conn, strcmp(get(command, "tls"), "direct") ? XMPP_CONN_FLAG_MANDATORY_TLS
                                                                    : XMPP_CONN_FLAG_LEGACY_SSL);
    xmpp_conn_set_sockopt_callback(conn, note_socket);
    xmpp_handler_add(conn, on_message, NULL, "message", NULL, NULL);
    xmpp_handler_add(conn, on_presence, NULL, "presence", NULL, NULL);
    xmpp_handler_add(conn, on_roster, ROSTER, "iq", "set", NULL);
    dial();
}

/* Sends an IQ whose payload is `xml`; the answer goes to `handler`. */
static void ask(const char *type, const char *to, const char *xml, xmpp_handler handler)
{
    char *id = xmpp_uuid_gen(ctx);
    xmpp_stanza_t *iq = xmpp_iq_new(ctx, type, id), *payload = xmpp_stanza_new_from_string(ctx, xml);
    if (to)
        xmpp_stanza_set_to(iq, to);
    xmpp_stanza_add_child(iq, payload);
    xmpp_stanza_release(payload);
    if (handler)
        xmpp_id_handler_add(conn, handler, id, NULL);
    xmpp_send(conn, iq);
    xmpp_stanza_release(iq);
    xmpp_free(ctx, id);
}

static void send_presence(const char *type, const char *to, const char *status)
{
    xmpp_stanza_t *presence = xmpp_presence_new(ctx);
    if (type)
        xmpp_stanza_set_type(presence, type);
    if (to)
        xmpp_stanza_set_to(presence, to);
    if (status) {
        xmpp_stanza_t *child = xmpp_stanza_new(ctx), *text = xmpp_stanza_new(ctx);
        xmpp_stanza_set_name(child, "status");
        xmpp_stanza_set_text(text, status);
        xmpp_stanza_add_child_ex(child, text, 0);
        xmpp_stanza_add_child_ex(presence, child, 0);
    }
    xmpp_send(conn, presence);
    xmpp_stanza_release(presence);
}

static void send_message(const char *to, const char *body)
{
    char *id = xmpp_uuid_gen(ctx);
    xmpp_stanza_t *message = xmpp_message_new(ctx, "chat", to, id);
    xmpp_message_set_body(message, body);
    xmpp_send(conn, message);
    xmpp_stanza_release(message);
    xmpp_free(ctx, id);
}

static void perform(json *command)
{
    const char *what = get(command, "do"), *jid = get(command, "jid"), *to = get(command, "to");
    char xml[1024];
    if (!strcmp(what, "connect")) {
        connect_client(command);
    } else if (!strcmp(what, "presence")) {
        send_presence(NULL, NULL, get(command, "status"));
    } else if (!strcmp(what, "subscribe")) {
        send_presence("subscribe", jid, NULL);
    } else if (!strcmp(what, "approve")) {
        send_presence("subscribed", jid, NULL);
    } else if (!strcmp(what, "send")) {
        send_message(to, get(command, "body"));
    } else if (!strcmp(what, "roster")) {
        ask("get", NULL, "<query xmlns='" ROSTER "'/>", on_roster);
    } else if (!strcmp(what, "roster-add")) {
        snprintf(xml, sizeof xml, "<query xmlns='" ROSTER "'><item jid='%s' name='contact'/></query>", jid);
        ask("set", NULL, xml, NULL);
    } else if (!strcmp(what, "ping")) {
        ask("get", to, "<ping xmlns='urn:xmpp:ping'/>", on_pong);
    } else if (!strcmp(what, "disco")) {
        ask("get", to, "<query xmlns='" DISCO "'/>", on_info);
    } else if (!strcmp(what, "drop")) {
        while (xmpp_conn_send_queue_len(conn)) /* what was not yet written would be forgotten */
            xmpp_run_once(ctx, 2);
        phase = DROPPING;
        shutdown(sock, SHUT_RDWR);
    } else if (!strcmp(what, "resume")) {
        xmpp_sm_state_t *state = xmpp_conn_get_sm_state(conn);
        phase = RESUMING;
        resumed = 0;
        if (state)
            xmpp_conn_set_sm_state(conn, state);
        dial();
    } else if (!strcmp(what, "quit")) {
        phase = QUITTING;
        if (conn && xmpp_conn_is_connected(conn)) {
            xmpp_disconnect(conn);
        } else {
            emit(event("bye"));
            exit(0);
        }
    }
}

int main(void)
{
    static const xmpp_log_t watch = {watch_log, NULL};
    char *line = NULL;
    size_t room = 0;
    struct pollfd in = {STDIN_FILENO, POLLIN, 0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0); /* so that poll() and getline() agree on what is left */
    signal(SIGPIPE, SIG_IGN); /* the library says good-bye to connections that are gone */
    xmpp_initialize();
    ctx = xmpp_ctx_new(NULL, &watch);
    contacts = json_object_new_object();
    for (;;) {
        xmpp_run_once(ctx, 2);
        while (poll(&in, 1, conn ? 0 : -1) > 0) {
            json *command;
            if (getline(&line, &room, stdin) < 0)
                return 0;
            command = json_tokener_parse(line);
            perform(command);
            json_object_put(command);
        }
    }
}
