// An echo in the usual style of Go: two goroutines a connection, a read deadline, a ticker that pings, a map behind a
// mutex, buffered reads, one write a message. It ends when its standard input does.
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	pingEvery = 25 * time.Second
	silence   = 60 * time.Second
	maxFrame  = 1 << 20
)

var ping = []byte{0, 0, 0, 8, 0xff, 0x9a, 0x9b, 0xff, 0, 0, 0, 1}

type client struct {
	conn    net.Conn
	writing sync.Mutex
	done    chan struct{}
}

func (c *client) write(frame []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.conn.Write(frame)
	return err
}

type registry struct {
	sync.Mutex
	clients map[*client]struct{}
}

func (r *registry) add(c *client) {
	r.Lock()
	defer r.Unlock()
	r.clients[c] = struct{}{}
}

func (r *registry) remove(c *client) {
	r.Lock()
	defer r.Unlock()
	delete(r.clients, c)
}

func (c *client) heartbeat() {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if c.write(ping) != nil {
				return
			}
		case <-c.done:
			return
		}
	}
}

func isPong(payload []byte) bool {
	return len(payload) == 8 && binary.BigEndian.Uint32(payload) == 0xff9a9bff
}

func (c *client) serve(clients *registry) {
	clients.add(c)
	defer func() {
		close(c.done)
		clients.remove(c)
		c.conn.Close()
	}()
	go c.heartbeat()
	reader := bufio.NewReader(c.conn)
	frame := make([]byte, 4, 4096)
	for {
		if c.conn.SetReadDeadline(time.Now().Add(silence)) != nil {
			return
		}
		if _, err := io.ReadFull(reader, frame[:4]); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(frame[:4]))
		if size > maxFrame {
			return
		}
		if cap(frame) < 4+size {
			larger := make([]byte, 4+size)
			copy(larger, frame[:4])
			frame = larger
		}
		frame = frame[:4+size]
		if _, err := io.ReadFull(reader, frame[4:]); err != nil {
			return
		}
		if isPong(frame[4:]) {
			continue
		}
		if c.write(frame) != nil {
			return
		}
	}
}

func main() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening tcp://%s\n", listener.Addr())
	clients := &registry{clients: make(map[*client]struct{})}
	for {
		conn, err := listener.Accept()
		if err != nil {
			continue
		}
		go (&client{conn: conn, done: make(chan struct{})}).serve(clients)
	}
}
