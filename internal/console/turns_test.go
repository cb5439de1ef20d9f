package console

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := make(turns, 1)
		began := time.Now()
		var came [4]time.Duration // when each page had its turn
		page := func(n int, takes time.Duration) {
			done, err := turns.take(t.Context())
			if err != nil {
				t.Errorf("page %d: %v", n, err)
				return
			}
			came[n] = time.Since(began)
			<-time.After(takes)
			done()
			done() // which changes nothing
		}
		var pages sync.WaitGroup
		for n, takes := range []time.Duration{100 * time.Millisecond, 10 * time.Second, 30 * time.Millisecond, 0} {
			pages.Go(func() { page(n, takes) })
			synctest.Wait()
		}
		pages.Wait()
		const second = 100 * time.Millisecond // whose page gives its turn up and goes on
		if want := [4]time.Duration{0, second, second + turnLasts, second + turnLasts + 30*time.Millisecond}; came != want {
			t.Errorf("pages had their turns after %v, want %v", came, want)
		}
		if len(turns) != 0 {
			t.Error("a turn was not given up")
		}

		hold, err := turns.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer hold()
		ctx, cancel := context.WithTimeout(t.Context(), turnLasts/2)
		defer cancel()
		if _, err := turns.take(ctx); !errors.Is(err, errBusy) {
			t.Errorf("a page that gets no turn in its time: %v", err)
		}
	})
}

// After a read a page rests for as long as the read took, but not for long.
func TestPagesRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone, leave := context.WithCancel(t.Context())
		leave()
		for name, c := range map[string]struct {
			ctx         context.Context
			takes, want time.Duration
		}{
			"a short read":                 {t.Context(), 3 * time.Millisecond, 6 * time.Millisecond},
			"a long one":                   {t.Context(), time.Second, time.Second + maxRest},
			"nobody waits for it any more": {gone, time.Second, time.Second},
		} {
			began := time.Now()
			err := unhurried(c.ctx)(func() error {
				<-time.After(c.takes)
				return errBusy
			})
			if took := time.Since(began); took != c.want || !errors.Is(err, errBusy) {
				t.Errorf("%s: after %v with %v, want %v", name, took, err, c.want)
			}
		}
	})
}

// A browser may send a form and take a page as slowly as it likes: it holds no turn
// meanwhile.
func TestASlowBrowserHoldsNoTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.console.turns = make(turns, 1)
	b := r.owner(t)
	form := with(weekly(), "do", "preview").Encode()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		var bytes int
		watch := func(n int) {
			bytes += n
			if len(r.console.turns) != 0 {
				t.Errorf("%s: a turn is held while the browser is waited for", method)
			}
		}
		req := httptest.NewRequestWithContext(t.Context(), method, r.url+"/campaigns", watchedReader{strings.NewReader(form), watch})
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		b.signs(req)
		answer := httptest.NewRecorder()
		r.console.Handler().ServeHTTP(watchedWriter{answer, watch}, req)
		if answer.Code >= http.StatusBadRequest || bytes < 1000 {
			t.Errorf("%s: status %d, %d bytes watched", method, answer.Code, bytes)
		}
	}
}

func TestNoTurnInTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.owner(t)
	r.console.turns = make(turns) // whose turns others have
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, r.url+"/campaigns", nil)
	b.signs(req)
	answer := httptest.NewRecorder()
	r.console.Handler().ServeHTTP(answer, req)
	if answer.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", answer.Code)
	}
	has(t, answer.Body.String(), "Too many people look at pages now")
}

// signs gives a request the browser's session.
func (b *browser) signs(r *http.Request) {
	for _, c := range b.client.Jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
}

type watchedReader struct {
	io.Reader
	watch func(n int)
}

func (r watchedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.watch(n)
	return n, err
}

type watchedWriter struct {
	http.ResponseWriter
	watch func(n int)
}

func (w watchedWriter) Write(p []byte) (int, error) {
	w.watch(len(p))
	return w.ResponseWriter.Write(p)
}
