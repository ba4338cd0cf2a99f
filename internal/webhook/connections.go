package webhook

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// connections bounds the connections that are open at once. It never lets a new one wait: strangers could hold all places
// by doing nothing, and keep Microsoft Graph out. Over the limit it closes another one instead: of those without a request
// the one that has been so for longest, and where all have one, the one whose request has taken longest.
type connections struct {
	limit int

	mu sync.Mutex // guards what follows
	// idle and active hold the open connections, each list in the order in which they came to be so. A connection is
	// active from the first byte of a request until its answer was sent; a new one is idle.
	idle, active list.List
}

// limitConnections returns a listener of which at most limit connections are open at once, and the hook by which the
// server tells what they do: https://pkg.go.dev/net/http#Server.ConnState
func limitConnections(listener net.Listener, limit int) (net.Listener, func(net.Conn, http.ConnState)) {
	c := &connections{limit: limit}
	return &limitedListener{Listener: listener, connections: c}, c.stateChanged
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
	if surplus := l.connections.add(accepted); surplus != nil {
		_ = surplus.Close()
	}
	return accepted, nil
}

// connection is an open one. Those of HTTP over TLS are this beneath TLS.
type connection struct {
	net.Conn
	owner *connections

	// in and place are where the connection is listed; nil once it is closed. The owner's mu guards them.
	in    *list.List
	place *list.Element
}

// Close closes the connection and gives up its place.
func (c *connection) Close() error {
	c.owner.move(c, nil)
	return c.Conn.Close()
}

// add lists a new connection and returns the one to close for it, nil where there is room.
func (c *connections) add(accepted *connection) (surplus *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle.Len()+c.active.Len() >= c.limit {
		longest := c.idle.Front()
		if longest == nil {
			longest = c.active.Front()
		}
		surplus, _ = longest.Value.(*connection)
		surplus.in.Remove(longest)
		surplus.in, surplus.place = nil, nil
	}
	accepted.in, accepted.place = &c.idle, c.idle.PushBack(accepted)
	return surplus
}

// stateChanged hears from the server. That a connection is closed, or was taken over, shows when it is closed here.
func (c *connections) stateChanged(conn net.Conn, state http.ConnState) {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	plain, ok := conn.(*connection)
	if !ok {
		return
	}
	switch state {
	case http.StateActive:
		c.move(plain, &c.active)
	case http.StateIdle:
		c.move(plain, &c.idle)
	case http.StateNew, http.StateHijacked, http.StateClosed:
	}
}

// move takes a connection to the end of a list, or with nil out of all, after which it stays out.
func (c *connections) move(conn *connection, to *list.List) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.in == nil {
		return
	}
	conn.in.Remove(conn.place)
	conn.in, conn.place = to, nil
	if to != nil {
		conn.place = to.PushBack(conn)
	}
}
