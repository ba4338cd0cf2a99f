package webhook

import (
	"container/list"
	"context"
	"net"
	"slices"
	"sync"

	"github.com/otelcopilot/m365copilotreceiver/internal/notification"
)

// connections limits the number of open connections. It does not make new connections wait, since idle connections of
// unauthenticated clients could then keep Microsoft Graph out. Instead it closes an open one: the oldest on which nothing
// authentic was received, otherwise the one on which that was longest ago. Nothing else that is sent keeps a connection open,
// and a new connection of Microsoft Graph is the last of the unauthenticated ones to be closed.
type connections struct {
	limit int

	mu sync.Mutex // guards the lists, and list and element of each connection
	// unauthenticated and authenticated hold the open connections in the order in which they were added to the list.
	unauthenticated, authenticated list.List
}

// limitConnections returns a listener that keeps at most limit connections open.
func limitConnections(listener net.Listener, limit int) net.Listener {
	return &limitedListener{Listener: listener, connections: &connections{limit: limit}}
}

type limitedListener struct {
	net.Listener
	connections *connections
}

// Accept returns the next connection. It closes another one if the limit is reached.
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

// connection is an open connection, beneath TLS if there is TLS.
type connection struct {
	net.Conn
	owner *connections

	// list holds the connection as element; both are nil once it is closed. The owner's mu guards them.
	list    *list.List
	element *list.Element
}

// Close closes the connection and removes it from its list.
func (c *connection) Close() error {
	c.owner.move(c, nil)
	return c.Conn.Close()
}

// add adds a new connection and returns the one to close instead, nil if the limit is not reached.
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

// move moves a connection to the end of another list, or removes it if to is nil. A removed connection is not added again.
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

// connectionKey is the context key of a request's connection.
type connectionKey struct{}

// withConnection implements ConnContext: https://pkg.go.dev/net/http#Server.ConnContext
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

// noteAuthentic records that something authentic was received on the connection of a request.
func noteAuthentic(ctx context.Context, decrypted notification.Decrypted) {
	conn, ok := ctx.Value(connectionKey{}).(*connection)
	authentic := len(decrypted.Received)+len(decrypted.Lifecycle) > 0 ||
		slices.ContainsFunc(decrypted.Rejected, func(r notification.Rejection) bool { return r.Gap != "" })
	if ok && authentic {
		conn.owner.move(conn, &conn.owner.authenticated)
	}
}
