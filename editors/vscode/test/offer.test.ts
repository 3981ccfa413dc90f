/** What an offer makes of the edits that follow it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Offer, type Edit, type Item } from "../src/offer.ts";

const AT = 100;
const FOO: Item = { id: "foo", text: "foo(bar)\n  baz", nBefore: 0 };
const FOX: Item = { id: "fox", text: "fox", nBefore: 0 };
const EMOJI: Item = { id: "emoji", text: "👍🏽 ok", nBefore: 0 };

interface Step {
  readonly edits: readonly Edit[];
  readonly isAccept?: boolean;
}

/** Steps are typed text, or `>` and text that a command accepted; offsets follow by themselves. */
function steps(...texts: string[]): Step[] {
  let offset = AT;
  return texts.map((each) => {
    const isAccept = each.startsWith(">");
    const text = isAccept ? each.slice(1) : each;
    const step = { edits: [{ offset, nRemoved: 0, text }], isAccept };
    offset += text.length;
    return step;
  });
}

function edit(offset: number, nRemoved: number, text: string): Step {
  return { edits: [{ offset, nRemoved, text }] };
}

const CASES: readonly [name: string, items: readonly Item[], taken: readonly Step[], reports: string[], left?: string][] = [
  ["typing through is no accept", [FOO], steps("f", "o"), [], "foo"],
  ["a word by our command", [FOO], steps(">foo"), ["foo 3"], "foo"],
  ["a word of one character by our command", [FOO], steps("f", ">o"), ["foo 2"], "foo"],
  ["a word by VS Code's own command", [FOO], steps("foo"), ["foo 3"], "foo"],
  ["words one after another", [FOO], steps(">foo", ">(bar"), ["foo 3", "foo 7"], "foo"],
  ["a line of a document with CRLF, counted in the text's LF", [FOO], steps(">foo(bar)\r\n"), ["foo 9"], "foo"],
  ["a line, after typing", [FOO], steps("f", ">oo(bar)"), ["foo 8"], "foo"],
  ["the whole is reported by its command", [FOX], steps(">fox"), []],
  ["one astral character is a key", [EMOJI], steps("👍"), [], "emoji"],
  ["lengths are UTF-16 units", [EMOJI], steps(">👍🏽 "), ["emoji 5"], "emoji"],
  ["the one that goes on so is meant", [FOX, FOO], steps(">foo"), ["foo 3"], "foo"],
  ["something else ends it", [FOO], steps("x", ">foo"), []],
  ["removing ends it", [FOO], [edit(AT - 1, 1, "")], []],
  ["an edit elsewhere ends it", [FOO], [edit(3, 0, "f")], []],
  ["several edits at once end it", [FOO], [{ edits: [...steps("f")[0]!.edits, { offset: 1, nRemoved: 0, text: "f" }] }], []],
  ["text before the cursor counts as taken", [{ ...FOO, nBefore: 2 }], steps(">o(bar"), ["foo 7"], "foo"],
];

for (const [name, items, taken, reports, left] of CASES) {
  void test(name, () => {
    const offer = new Offer("file:///a.py", AT, items);
    const seen = taken.flatMap(({ edits, isAccept }) => offer.edited(edits, isAccept ?? false) ?? []);
    assert.deepEqual(seen.map(({ id, acceptedLength }) => `${id} ${acceptedLength}`), reports);
    assert.equal(offer.id, left);
  });
}

void test("an offer is at its cursor only", () => {
  const offer = new Offer("file:///a.py", AT, [FOO]);
  offer.edited(steps("f")[0]!.edits, false);
  assert.ok(offer.isAt("file:///a.py", AT + 1));
  assert.ok(!offer.isAt("file:///a.py", AT));
  assert.ok(!offer.isAt("file:///b.py", AT + 1));
});
