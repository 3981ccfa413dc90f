// Bundles the extension into one file, so that the package holds no node_modules, and puts the licence beside it.
import { copyFile } from "node:fs/promises";
import { build } from "esbuild";

await copyFile("../../LICENSE", "LICENSE.txt");

await build({
  entryPoints: ["src/extension.ts"],
  outfile: "dist/extension.cjs",
  bundle: true,
  minify: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  external: ["vscode"],
  legalComments: "eof",
});
