// mellium.im/xmpp (Go) behind the line protocol of ../../README.md.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/history"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/mux"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/roster"
	"mellium.im/xmpp/stanza"
)

type fields map[string]any

type command struct {
	Do, Jid, Password, Host, TLS, CA, To, Body, Status string
	Port                                               int
	Receipt, Markable, Private                         bool
	Replaces, Kind, Ref                                string
	Emojis                                             []string
	On                                                 *bool
	With, Start, End, After, Pages                     string
	BeforeID                                           string `json:"before_id"`
	AfterID                                            string `json:"after_id"`
	Before                                             *string
	Max                                                *uint64
	IDs                                                []string
	Default                                            string
	Always, Never                                      []string
}

// client is one session and the roster as it was told.
type client struct {
	session   *xmpp.Session
	ended     chan error
	mutex     sync.Mutex
	contacts  map[string]string
	mechanism string
	history   *history.Handler
}

var stdout sync.Mutex

func emit(ev string, more fields) {
	event := fields{"ev": ev}
	for key, value := range more {
		event[key] = value
	}
	line, _ := json.Marshal(event)
	stdout.Lock()
	defer stdout.Unlock()
	fmt.Println(string(line))
}

// condition digs the SASL error condition out of an error of an internal type.
func condition(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		if v := reflect.ValueOf(err); v.Kind() == reflect.Struct && v.FieldByName("Condition").IsValid() {
			return fmt.Sprint(v.FieldByName("Condition").Interface())
		}
	}
	return ""
}

func (c *client) connect(ctx context.Context, cmd command) error {
	pem, err := os.ReadFile(cmd.CA)
	if err != nil {
		return err
	}
	address := jid.MustParse(cmd.Jid)
	config := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: address.Domainpart()}
	config.RootCAs.AppendCertsFromPEM(pem)

	features := []xmpp.StreamFeature{
		xmpp.SASL("", cmd.Password, c.noting(
			sasl.ScramSha256Plus, sasl.ScramSha1Plus, sasl.ScramSha256, sasl.ScramSha1, sasl.Plain)...),
		xmpp.BindResource(),
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(cmd.Host, fmt.Sprint(cmd.Port)))
	if err != nil {
		return err
	}
	if cmd.TLS == "direct" {
		config.NextProtos = []string{"xmpp-client"}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = secure
	} else {
		features = append(features, xmpp.StartTLS(config))
	}
	if c.session, err = xmpp.NewClientSession(ctx, address, conn, features...); err != nil {
		return err
	}
	c.ended = make(chan error, 1)
	go func() {
		err := c.session.Serve(c.handler())
		fmt.Fprintln(os.Stderr, "the session ended:", err)
		c.ended <- err
	}()
	emit("online", fields{
		"jid":       c.session.LocalAddr().String(),
		"mechanism": c.mechanism,
		"tls":       tls.VersionName(c.session.ConnectionState().Version),
	})
	return nil
}

// noting wraps mechanisms so that the one that starts leaves its name.
func (c *client) noting(mechanisms ...sasl.Mechanism) []sasl.Mechanism {
	for i, mechanism := range mechanisms {
		start := mechanism.Start
		mechanisms[i].Start = func(n *sasl.Negotiator) (bool, []byte, any, error) {
			c.mechanism = mechanism.Name
			return start(n)
		}
	}
	return mechanisms
}

func (c *client) handler() xmpp.Handler {
	iqs := mux.New(stanza.NSClient, ping.Handle(), roster.Handle(roster.Handler{
		Push: func(_ string, item roster.Item) error {
			c.update(item)
			c.roster()
			return nil
		},
	}))
	return xmpp.HandlerFunc(func(t xmlstream.TokenReadEncoder, start *xml.StartElement) error {
		if start.Name.Local == "iq" {
			return iqs.HandleXMPP(t, start)
		}
		if start.Name.Local == "message" {
			return c.hearMessage(t, start)
		}
		return hear(t, start)
	})
}

func hear(t xml.TokenReader, start *xml.StartElement) error {
	var in struct {
		XMLName xml.Name
		From    jid.JID `xml:"from,attr"`
		Type    string  `xml:"type,attr"`
		Status  string  `xml:"status"`
	}
	whole := xmlstream.MultiReader(xmlstream.Token(*start), t)
	if err := xml.NewTokenDecoder(whole).Decode(&in); err != nil && err != io.EOF {
		return err
	}
	event := fields{"from": in.From.String()}
	switch {
	case in.XMLName.Local == "presence" && (in.Type == "subscribe" || in.Type == "subscribed"):
		emit(in.Type, fields{"from": in.From.Bare().String()})
	case in.XMLName.Local == "presence" && (in.Type == "" || in.Type == "unavailable"):
		event["type"], event["status"] = "available", in.Status
		if in.Type != "" {
			event["type"] = in.Type
		}
		emit("presence", event)
	}
	return nil
}

func (c *client) update(item roster.Item) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.contacts[item.JID.String()] = item.Subscription
}

func (c *client) roster() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	items := []fields{}
	for address, subscription := range c.contacts {
		items = append(items, fields{"jid": address, "subscription": subscription})
	}
	emit("roster", fields{"items": items})
}

func (c *client) do(ctx context.Context, cmd command) error {
	to := func(address string) jid.JID { return jid.MustParse(address) }
	text := func(name, value string) xml.TokenReader {
		if value == "" {
			return nil
		}
		return xmlstream.Wrap(xmlstream.Token(xml.CharData(value)), xml.StartElement{Name: xml.Name{Local: name}})
	}
	switch cmd.Do {
	case "connect":
		return c.connect(ctx, cmd)
	case "presence":
		return c.session.Send(ctx, stanza.Presence{}.Wrap(text("status", cmd.Status)))
	case "subscribe":
		return c.session.Send(ctx, stanza.Presence{To: to(cmd.Jid), Type: stanza.SubscribePresence}.Wrap(nil))
	case "approve":
		return c.session.Send(ctx, stanza.Presence{To: to(cmd.Jid), Type: stanza.SubscribedPresence}.Wrap(nil))
	case "send":
		return c.send(ctx, cmd)
	case "mark":
		return c.mark(ctx, cmd)
	case "carbons":
		return c.carbons(ctx, cmd)
	case "archive":
		return c.archive(ctx, cmd)
	case "archive-prefs":
		return c.prefs(ctx, cmd)
	case "archive-metadata":
		return c.metadata(ctx)
	case "roster":
		items := roster.Fetch(ctx, c.session)
		for items.Next() {
			c.update(items.Item())
		}
		if err := errors.Join(items.Err(), items.Close()); err != nil {
			return err
		}
		c.roster()
	case "roster-add":
		return roster.Set(ctx, c.session, roster.Item{JID: to(cmd.Jid), Name: "contact"})
	case "ping":
		if err := ping.Send(ctx, c.session, to(cmd.To)); err != nil {
			return err
		}
		emit("pong", nil)
	case "disco":
		info, err := disco.GetInfo(ctx, "", to(cmd.To), c.session)
		if err != nil {
			return err
		}
		features, identities := []string{}, []string{}
		for _, f := range info.Features {
			features = append(features, f.Var)
		}
		for _, i := range info.Identity {
			identities = append(identities, i.Category+"/"+i.Type)
		}
		emit("disco", fields{"features": features, "identities": identities})
	case "quit":
		if c.session != nil {
			if err := c.session.Close(); err != nil {
				return err
			}
			<-c.ended
			_ = c.session.Conn().Close()
		}
		emit("bye", nil)
	default:
		return fmt.Errorf("unknown command %q", cmd.Do)
	}
	return nil
}

func main() {
	c := &client{contacts: map[string]string{}, history: history.NewHandler(nil)}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var cmd command
		if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
			panic(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		if err := c.do(ctx, cmd); err != nil {
			emit("error", fields{"do": cmd.Do, "condition": condition(err), "text": err.Error()})
		}
		cancel()
		if cmd.Do == "quit" {
			return
		}
	}
}
