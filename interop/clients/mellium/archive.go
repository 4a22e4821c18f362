package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/carbons"
	"mellium.im/xmpp/delay"
	"mellium.im/xmpp/forward"
	"mellium.im/xmpp/history"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/receipts"
	"mellium.im/xmpp/stanza"
)

const (
	correction = "urn:xmpp:message-correct:0"
	markers    = "urn:xmpp:chat-markers:0"
	reactions  = "urn:xmpp:reactions:0"
	hints      = "urn:xmpp:hints"
)

// mark is a payload that says something about another message.
type mark struct {
	ID     string   `xml:"id,attr"`
	Emojis []string `xml:"reaction"`
}

// message is what a client wants to know of one; the library has classes for some payloads only.
type message struct {
	XMLName  xml.Name  `xml:"message"`
	From     string    `xml:"from,attr"`
	To       string    `xml:"to,attr"`
	ID       string    `xml:"id,attr"`
	Type     string    `xml:"type,attr"`
	Body     string    `xml:"body"`
	Delay    *struct{} `xml:"urn:xmpp:delay delay"`
	Replace  *mark     `xml:"urn:xmpp:message-correct:0 replace"`
	Received *mark     `xml:"urn:xmpp:receipts received"`
	Marker   *mark     `xml:"urn:xmpp:chat-markers:0 displayed"`
	React    *mark     `xml:"urn:xmpp:reactions:0 reactions"`
	IDs      []struct {
		ID string `xml:"id,attr"`
		By string `xml:"by,attr"`
	} `xml:"urn:xmpp:sid:0 stanza-id"`
	Error stanza.Error `xml:"error"`
}

func (m message) describe(account jid.JID) fields {
	event := fields{"from": m.From, "to": m.To, "id": m.ID}
	if m.Body != "" {
		event["body"] = m.Body
	}
	if m.Delay != nil {
		event["delayed"] = "delay"
	}
	if m.Replace != nil {
		event["replaces"] = m.Replace.ID
	}
	for _, id := range m.IDs {
		if id.By == account.String() {
			event["sid"] = id.ID
		}
	}
	for kind, found := range map[string]*mark{"received": m.Received, "displayed": m.Marker, "reactions": m.React} {
		if found != nil {
			event["kind"], event["ref"] = kind, found.ID
		}
	}
	if m.React != nil {
		slices.Sort(m.React.Emojis)
		event["emojis"] = m.React.Emojis
	}
	return event
}

func tell(event fields) {
	if event["body"] != nil {
		emit("message", event)
	} else if event["kind"] != nil {
		emit("mark", event)
	}
}

// tokens reads a stanza that has been read before, and takes no answer.
type tokens struct {
	xml.TokenReader
	xmlstream.Encoder
}

func replay(all []xml.Token) tokens {
	return tokens{TokenReader: xmlstream.ReaderFunc(func() (xml.Token, error) {
		if len(all) == 0 {
			return nil, io.EOF
		}
		token := all[0]
		all = all[1:]
		return token, nil
	})}
}

// hearMessage gives copies and results to the library's handlers, which want the stanza's tokens to themselves.
func (c *client) hearMessage(t xmlstream.TokenReadEncoder, start *xml.StartElement) error {
	rest, err := xmlstream.ReadAll(t)
	if err != nil {
		return err
	}
	all := append([]xml.Token{start.Copy()}, rest...)
	stanzaStart, err := stanza.NewMessage(*start)
	if err != nil {
		return err
	}
	account := c.session.LocalAddr().Bare()
	own := stanzaStart.From.Equal(jid.JID{}) || stanzaStart.From.Equal(account)
	for _, payload := range payloads(all) {
		switch {
		case own && payload.Space == carbons.NS && (payload.Local == "sent" || payload.Local == "received"):
			return carbons.Handler{F: func(_ stanza.Message, sent bool, inner xml.TokenReader) error {
				copied, err := decodeMessage(inner)
				event := copied.describe(account)
				event["copy"] = map[bool]string{true: "sent", false: "received"}[sent]
				tell(event)
				return err
			}}.HandleMessage(stanzaStart, replay(all))
		case own && payload.Space == history.NS && payload.Local == "result":
			return c.history.HandleMessage(stanzaStart, replay(all))
		}
	}
	m, err := decodeMessage(replay(all))
	if err != nil {
		return err
	}
	if m.Type == "error" {
		emit("error", fields{"do": "send", "condition": string(m.Error.Condition)})
	} else {
		tell(m.describe(account))
	}
	return nil
}

// payloads are the names of the children.
func payloads(all []xml.Token) (names []xml.Name) {
	depth := 0
	for _, token := range all {
		switch t := token.(type) {
		case xml.StartElement:
			if depth == 1 {
				names = append(names, t.Name)
			}
			depth++
		case xml.EndElement:
			depth--
		}
	}
	return names
}

// decodeMessage decodes the first message in what is read.
func decodeMessage(r xml.TokenReader) (m message, err error) {
	d := xml.NewTokenDecoder(r)
	for {
		token, err := d.Token()
		if err != nil {
			return m, err
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "message" {
			return m, d.DecodeElement(&m, &start)
		}
	}
}

func element(space, local, text string, attributes ...string) xml.TokenReader {
	start := xml.StartElement{Name: xml.Name{Space: space, Local: local}}
	for i := 0; i < len(attributes); i += 2 {
		start.Attr = append(start.Attr, xml.Attr{Name: xml.Name{Local: attributes[i]}, Value: attributes[i+1]})
	}
	if text == "" {
		return xmlstream.Wrap(nil, start)
	}
	return xmlstream.Wrap(xmlstream.Token(xml.CharData(text)), start)
}

func (c *client) send(ctx context.Context, cmd command) error {
	children := []xml.TokenReader{element("", "body", cmd.Body)}
	if cmd.Receipt {
		children = append(children, receipts.Requested(true).TokenReader())
	}
	if cmd.Markable {
		children = append(children, element(markers, "markable", ""))
	}
	if cmd.Replaces != "" {
		children = append(children, element(correction, "replace", "", "id", cmd.Replaces))
	}
	return c.sendMessage(ctx, cmd, children)
}

func (c *client) mark(ctx context.Context, cmd command) error {
	var what xml.TokenReader
	switch cmd.Kind {
	case "received":
		what = element(receipts.NS, "received", "", "id", cmd.Ref)
	case "displayed":
		what = element(markers, "displayed", "", "id", cmd.Ref)
	default:
		emojis := []xml.TokenReader{}
		for _, emoji := range cmd.Emojis {
			emojis = append(emojis, element("", "reaction", emoji))
		}
		what = xmlstream.Wrap(xmlstream.MultiReader(emojis...), xml.StartElement{
			Name: xml.Name{Space: reactions, Local: "reactions"},
			Attr: []xml.Attr{{Name: xml.Name{Local: "id"}, Value: cmd.Ref}},
		})
	}
	return c.sendMessage(ctx, cmd, []xml.TokenReader{what, element(hints, "store", "")})
}

func (c *client) sendMessage(ctx context.Context, cmd command, children []xml.TokenReader) error {
	name := xml.Name{Space: stanza.NSClient, Local: "message"}
	start := stanza.Message{XMLName: name, ID: fmt.Sprint(time.Now().UnixNano()), To: jid.MustParse(cmd.To), Type: stanza.ChatMessage}
	out := start.Wrap(xmlstream.MultiReader(children...))
	if cmd.Private {
		out = carbons.Private(out)
	}
	emit("sent", fields{"from": "", "to": cmd.To, "id": start.ID, "body": cmd.Body})
	return c.session.Send(ctx, out)
}

func (c *client) carbons(ctx context.Context, cmd command) error {
	on := cmd.On == nil || *cmd.On
	change := carbons.Enable
	if !on {
		change = carbons.Disable
	}
	if err := change(ctx, c.session); err != nil {
		return err
	}
	emit("carbons", fields{"on": on})
	return nil
}

// archive fetches one page, or with `pages` ("forward", "backward") as many as there are; the oldest message first.
func (c *client) archive(ctx context.Context, cmd command) error {
	query := history.Query{BeforeID: cmd.BeforeID, AfterID: cmd.AfterID, IDs: cmd.IDs, PageID: cmd.After}
	query.Last = cmd.Pages == "backward" || cmd.Before != nil
	if cmd.Before != nil {
		query.PageID = *cmd.Before
	}
	if cmd.With != "" {
		query.With = jid.MustParse(cmd.With)
	}
	if cmd.Max != nil {
		query.Limit = *cmd.Max
	}
	for text, at := range map[string]*time.Time{cmd.Start: &query.Start, cmd.End: &query.End} {
		if text != "" {
			parsed, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return err
			}
			*at = parsed
		}
	}
	var found []fields
	for {
		page, result, err := c.page(ctx, query)
		if err != nil {
			return err
		}
		if query.Last {
			found = append(page, found...)
			query.PageID = result.Set.First.ID
		} else {
			found = append(found, page...)
			query.PageID = result.Set.Last
		}
		if cmd.Pages != "" && !result.Complete && len(page) > 0 {
			continue
		}
		for _, event := range found {
			emit("archived", event)
		}
		fin := fields{"complete": result.Complete}
		if result.Set.Last != "" {
			fin["first"], fin["last"] = result.Set.First.ID, result.Set.Last
		}
		if result.Set.Count != nil {
			fin["count"] = *result.Set.Count
		}
		emit("archive", fin)
		return nil
	}
}

func (c *client) page(ctx context.Context, query history.Query) (found []fields, result history.Result, err error) {
	account := c.session.LocalAddr().Bare()
	pages := c.history.Fetch(ctx, query, account, c.session)
	for pages.Next() {
		var in struct {
			XMLName xml.Name `xml:"message"`
			Result  struct {
				ID        string `xml:"id,attr"`
				Forwarded struct {
					forward.Forwarded
					Delay   delay.Delay `xml:"urn:xmpp:delay delay"`
					Message message     `xml:"jabber:client message"`
				} `xml:"urn:xmpp:forward:0 forwarded"`
			} `xml:"urn:xmpp:mam:2 result"`
		}
		if err := xml.NewTokenDecoder(pages.Current()).Decode(&in); err != nil {
			return nil, result, err
		}
		event := in.Result.Forwarded.Message.describe(account)
		event["sid"] = in.Result.ID
		event["stamp"] = in.Result.Forwarded.Delay.Time.UTC().Format(time.RFC3339Nano)
		found = append(found, event)
	}
	result = pages.Result()
	if err = pages.Err(); err == nil && result.Set.XMLName.Local == "" {
		err = fmt.Errorf("the query failed; the library does not say why")
	}
	return found, result, err
}

// prefs asks for the preferences, or sets them when there is a default. The library does not know them.
func (c *client) prefs(ctx context.Context, cmd command) error {
	if cmd.Default != "" {
		list := func(name string, addresses []string) xml.TokenReader {
			items := []xml.TokenReader{}
			for _, address := range addresses {
				items = append(items, element("", "jid", address))
			}
			return xmlstream.Wrap(xmlstream.MultiReader(items...), xml.StartElement{Name: xml.Name{Local: name}})
		}
		set := xmlstream.Wrap(
			xmlstream.MultiReader(list("always", cmd.Always), list("never", cmd.Never)),
			xml.StartElement{
				Name: xml.Name{Space: history.NS, Local: "prefs"},
				Attr: []xml.Attr{{Name: xml.Name{Local: "default"}, Value: cmd.Default}},
			})
		if err := c.session.UnmarshalIQElement(ctx, set, stanza.IQ{Type: stanza.SetIQ}, &struct{}{}); err != nil {
			return err
		}
	}
	var answer struct {
		Prefs struct {
			Default string   `xml:"default,attr"`
			Always  []string `xml:"always>jid"`
			Never   []string `xml:"never>jid"`
		} `xml:"urn:xmpp:mam:2 prefs"`
	}
	if err := c.ask(ctx, "prefs", &answer); err != nil {
		return err
	}
	lists := map[string][]string{"always": answer.Prefs.Always, "never": answer.Prefs.Never}
	event := fields{"default": answer.Prefs.Default}
	for name, addresses := range lists {
		slices.Sort(addresses)
		event[name] = append([]string{}, addresses...)
	}
	emit("archive-prefs", event)
	return nil
}

func (c *client) metadata(ctx context.Context) error {
	type end struct {
		ID string `xml:"id,attr"`
	}
	var answer struct {
		Metadata struct {
			Start *end `xml:"start"`
			End   *end `xml:"end"`
		} `xml:"urn:xmpp:mam:2 metadata"`
	}
	if err := c.ask(ctx, "metadata", &answer); err != nil {
		return err
	}
	event := fields{}
	if answer.Metadata.Start != nil && answer.Metadata.End != nil {
		event["start"], event["end"] = answer.Metadata.Start.ID, answer.Metadata.End.ID
	}
	emit("archive-metadata", event)
	return nil
}

// ask reads the whole answer to an empty question.
func (c *client) ask(ctx context.Context, name string, answer any) error {
	response, err := c.session.SendIQElement(ctx, element(history.NS, name, ""), stanza.IQ{Type: stanza.GetIQ})
	if err != nil {
		return err
	}
	defer response.Close()
	return xml.NewTokenDecoder(response).Decode(answer)
}
