// Suggests, in the workspace named "peer" alone, what the script of the tests suggests there.
const vscode = require("vscode");

exports.activate = (context) => {
  if (vscode.workspace.name !== "peer") {
    return;
  }
  const provideInlineCompletionItems = (document, position) => {
    const line = document.lineAt(position).text;
    return line === "v" ? [{ insertText: "alue", range: new vscode.Range(position, position) }] : [];
  };
  const selector = { scheme: "file" };
  context.subscriptions.push(vscode.languages.registerInlineCompletionItemProvider(selector, { provideInlineCompletionItems }));
};
