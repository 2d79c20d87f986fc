#!/usr/bin/python3
"""Drops text/uri-list data on an X11 window, as a file manager would: xdnd.py WINDOW URI...

Speaks XDND version 5 as the source. Ends with 0 once the window has taken the data and said that it is finished.
"""
import sys
import time

from Xlib import X, Xatom, display
from Xlib.protocol import event

VERSION = 5
LIMIT_S = 10


class Source:
    def __init__(self, target, uris):
        self.d = display.Display()
        self.root = self.d.screen().root
        self.target = self.d.create_resource_object("window", target)
        self.payload = "".join(u + "\r\n" for u in uris).encode()
        self.uri_list = self.d.intern_atom("text/uri-list")
        self.selection = self.d.intern_atom("XdndSelection")
        self.window = self.root.create_window(0, 0, 1, 1, 0, X.CopyFromParent)
        types = self.d.intern_atom("XdndTypeList")
        self.window.change_property(types, Xatom.ATOM, 32, [self.uri_list])
        self.window.set_selection_owner(self.selection, X.CurrentTime)
        self.d.flush()

    def tell(self, name, *words):
        data = [self.window.id, *words] + [0] * (4 - len(words))
        message = event.ClientMessage(window=self.target, client_type=self.d.intern_atom(name), data=(32, data))
        self.target.send_event(message, event_mask=X.NoEventMask)
        self.d.flush()

    def hand_over(self, asked):
        """Answers the window's request for the data."""
        prop = asked.property or asked.target
        if asked.target == self.uri_list:
            asked.requestor.change_property(prop, asked.target, 8, self.payload)
        else:
            prop = X.NONE
        asked.requestor.send_event(
            event.SelectionNotify(
                time=asked.time, requestor=asked.requestor, selection=asked.selection, target=asked.target, property=prop
            )
        )
        self.d.flush()

    def wait(self, name):
        """Serves requests until the window's message `name` comes; its data, or None when it does not come."""
        atom, end = self.d.intern_atom(name), time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if not self.d.pending_events():
                time.sleep(0.005)
                continue
            e = self.d.next_event()
            if e.type == X.SelectionRequest:
                self.hand_over(e)
            elif e.type == X.ClientMessage and e.client_type == atom:
                return e.data[1]
        return None

    def drop(self):
        size = self.target.get_geometry()
        at = self.target.translate_coords(self.root, 0, 0)
        x, y = -at.x + size.width // 2, -at.y + size.height // 2
        self.tell("XdndEnter", VERSION << 24, self.uri_list)
        self.tell("XdndPosition", 0, (x << 16) | y, X.CurrentTime, self.d.intern_atom("XdndActionCopy"))
        status = self.wait("XdndStatus")
        if status is None or not status[1] & 1:
            return "the window does not take drops"
        self.tell("XdndDrop", 0, X.CurrentTime)
        finished = self.wait("XdndFinished")
        return None if finished is not None else "the window did not finish the drop"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(Source(int(sys.argv[1], 0), sys.argv[2:]).drop())
