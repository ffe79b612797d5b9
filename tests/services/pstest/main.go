// The fake of Pub/Sub that comes with Google's Go library. With a second address its clock stands
// still until it is told another time there: a line with Unix seconds, answered with a dot.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"cloud.google.com/go/pubsub/pstest"
)

func main() {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	server := pstest.NewServerWithAddress(os.Args[1])
	if len(os.Args) < 3 {
		select {}
	}
	server.SetTimeNowFunc(func() time.Time { return time.Unix(0, now.Load()) })
	clocks, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		clock, err := clocks.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			lines := bufio.NewScanner(clock)
			for lines.Scan() {
				seconds, err := strconv.ParseFloat(lines.Text(), 64)
				if err != nil {
					return
				}
				now.Store(int64(seconds * 1e9))
				clock.Write([]byte("."))
			}
		}()
	}
}
