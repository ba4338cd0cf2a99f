package webhook

import (
	"container/list"
	"context"
	"net"
	"slices"
	"sync"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// connections bounds the connections that are open at once. It never lets a new one wait: strangers could hold all places
// by doing nothing, and keep Microsoft Graph out. Over the limit it closes another one instead: of those on which nothing
// authentic came the oldest, else the one on which that was longest ago. Whatever else is sent on a connection does not
// count, so a stranger keeps none alive, and a new one of Microsoft Graph is the last of the strangers to go.
type connections struct {
	limit int

	mu sync.Mutex // guards what follows, and where each connection is listed
	// unauthenticated and proven hold the open connections, each in the order in which they came there.
	unauthenticated, authenticated list.List
}

// limitConnections returns a listener of which at most limit connections are open at once.
func limitConnections(listener net.Listener, limit int) net.Listener {
	return &limitedListener{Listener: listener, connections: &connections{limit: limit}}
}

type limitedListener struct {
	net.Listener
	connections *connections
}

// Accept returns the next connection, after it made room for it.
func (l *limitedListener) Accept() (net.Conn, error) {
	plain, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	accepted := &connection{Conn: plain, owner: l.connections}
	if evicted := l.connections.add(accepted); evicted != nil {
		_ = evicted.Close()
	}
	return accepted, nil
}

// connection is an open one. Those of HTTP over TLS are this beneath TLS.
type connection struct {
	net.Conn
	owner *connections

	// list and place are where the connection is listed; nil once it is to be closed. The owner's mu guards them.
	list    *list.List
	element *list.Element
}

// Close closes the connection and gives up its place.
func (c *connection) Close() error {
	c.owner.move(c, nil)
	return c.Conn.Close()
}

// add lists a new connection and returns the one to close for it, nil where there is room.
func (c *connections) add(accepted *connection) (evicted *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unauthenticated.Len()+c.authenticated.Len() >= c.limit {
		first := c.unauthenticated.Front()
		if first == nil {
			first = c.authenticated.Front()
		}
		evicted, _ = first.Value.(*connection)
		evicted.list.Remove(first)
		evicted.list, evicted.element = nil, nil
	}
	accepted.list, accepted.element = &c.unauthenticated, c.unauthenticated.PushBack(accepted)
	return evicted
}

// move takes a connection to the end of a list, or with nil out of all, after which it stays out.
func (c *connections) move(conn *connection, to *list.List) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.list == nil {
		return
	}
	conn.list.Remove(conn.element)
	conn.list, conn.element = to, nil
	if to != nil {
		conn.element = to.PushBack(conn)
	}
}

// connectionKey is the key of a request's connection in its context.
type connectionKey struct{}

// withConnection is for the server's ConnContext: https://pkg.go.dev/net/http#Server.ConnContext
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

// noteAuthentic remembers that Microsoft Graph sent something on the connection of a request.
func noteAuthentic(ctx context.Context, decrypted notification.Decrypted) {
	conn, ok := ctx.Value(connectionKey{}).(*connection)
	authentic := len(decrypted.Received)+len(decrypted.Lifecycle) > 0 ||
		slices.ContainsFunc(decrypted.Rejected, func(r notification.Rejection) bool { return r.Gap != "" })
	if ok && authentic {
		conn.owner.move(conn, &conn.owner.authenticated)
	}
}
