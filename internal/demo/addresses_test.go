// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReserve_PrefersPorts(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	released, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, released.Close())

	number := func(l net.Listener) int {
		n, err := strconv.Atoi(port(l.Addr().String()))
		require.NoError(t, err)
		return n
	}
	chosen, r, err := reserve(number(released), number(taken), number(released))
	require.NoError(t, err)
	defer r.release(chosen...)
	require.Len(t, chosen, 3)
	assert.Equal(t, released.Addr().String(), chosen[0])
	assert.NotEqual(t, taken.Addr().String(), chosen[1], "it is taken")
	assert.NotContains(t, chosen[:2], chosen[2], "the same port twice")
	for _, address := range chosen {
		host, _, err := net.SplitHostPort(address)
		require.NoError(t, err)
		assert.Equal(t, "127.0.0.1", host)
	}
}

func TestReserve_HoldsAddressUntilReleased(t *testing.T) {
	t.Parallel()
	chosen, r, err := reserve(0, 0)
	require.NoError(t, err)
	defer r.release(chosen...)
	_, err = net.Listen("tcp", chosen[0])
	require.Error(t, err)
	r.release(chosen[0], "127.0.0.1:1")
	listener, err := net.Listen("tcp", chosen[0])
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	_, err = net.Listen("tcp", chosen[1])
	require.Error(t, err, "the other one")
}
