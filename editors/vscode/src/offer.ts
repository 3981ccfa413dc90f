/**
 * What the server offered at the cursor, followed through what is typed and accepted of it.
 *
 * VS Code tells an extension when the whole of a suggestion is accepted (its command runs), and by its stable API
 * nothing else: not what is drawn, not that a word was taken. So a word or line is seen in the document: text that
 * appears where the suggestion goes on, and is its continuation, was accepted if a command of ours asked for it or if
 * it is longer than a key types. Free of VS Code, so that it is tested by itself.
 */

export interface Item {
  readonly id: string;
  readonly text: string;
  /** How much of the text stood before the cursor when it was offered, as after a choice in the completion list. */
  readonly nBefore: number;
}

export interface Edit {
  readonly offset: number;
  readonly nRemoved: number;
  readonly text: string;
}

export interface Partial {
  readonly id: string;
  readonly acceptedLength: number;
}

export class Offer {
  readonly document: string;
  private items: readonly { readonly id: string; readonly text: string; readonly nDone: number }[];
  private cursor: number;

  /** `cursor` is an offset in the document, in UTF-16 units. */
  constructor(document: string, cursor: number, items: readonly Item[]) {
    this.document = document;
    this.cursor = cursor;
    this.items = items.map(({ id, text, nBefore }) => ({ id, text, nDone: nBefore }));
  }

  /** The item that VS Code draws, unless the user looks at another. */
  get id(): string | undefined {
    return this.items[0]?.id;
  }

  /** Whether a reply still fits, being at the cursor. */
  isAt(document: string, cursor: number): boolean {
    return this.items.length > 0 && this.document === document && this.cursor === cursor;
  }

  /** Follows one change of the document; gives what was accepted by it, if it accepted a part. */
  edited(edits: readonly Edit[], isAccept: boolean): Partial | undefined {
    const edit = edits[0];
    if (edits.length !== 1 || edit === undefined || edit.nRemoved > 0 || edit.offset !== this.cursor) {
      this.items = [];
      return undefined;
    }
    // The server writes LF; VS Code inserts the document's own line ends.
    const text = edit.text.replaceAll("\r\n", "\n");
    this.cursor += edit.text.length;
    this.items = this.items
      .filter((item) => item.text.startsWith(text, item.nDone))
      .map((item) => ({ ...item, nDone: item.nDone + text.length }));
    const first = this.items[0];
    if (first === undefined || text.length === 0) {
      return undefined;
    }
    const isWhole = first.nDone === first.text.length;
    this.items = this.items.filter((item) => item.nDone < item.text.length);
    // The whole is reported by its command. A pasted or auto-closed text that happens to agree counts as accepted.
    return isWhole || !(isAccept || [...text].length > 1) ? undefined : { id: first.id, acceptedLength: first.nDone };
  }
}
