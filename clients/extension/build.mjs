// Builds the extension for each browser out of one source: dist/chrome and dist/firefox, to be loaded unpacked, and beside
// them hybridgw-chrome.zip and hybridgw-firefox.zip for the stores. The same source gives the same bytes.
//
//   node build.mjs [DIR]    into DIR instead of dist

import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { deflateRawSync } from 'node:zlib'
import { build } from 'vite'
import { manifest } from './manifest.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const out = resolve(process.argv[2] ?? join(here, 'dist'))
const { version } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'))
const common = {
  root: join(here, 'src'),
  configFile: false,
  base: './',
  logLevel: 'warn',
  publicDir: false,
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
}
const plain = { target: 'es2022', modulePreload: { polyfill: false }, assetsInlineLimit: 0, reportCompressedSize: false, emptyOutDir: false }

const made = join(out, 'made')
rmSync(out, { recursive: true, force: true })
// The background is one script: an event page of Firefox and a worker of Chromium both load it.
await build({
  ...common,
  build: {
    ...plain,
    outDir: made,
    rolldownOptions: { input: join(here, 'src/background.ts'), output: { format: 'iife', entryFileNames: 'background.js' } },
  },
})
await build({
  ...common,
  build: {
    ...plain,
    outDir: made,
    license: { fileName: 'licenses.md' },
    rolldownOptions: {
      input: ['popup.html', 'options.html'].map((page) => join(here, 'src', page)),
      output: { entryFileNames: 'assets/[name].js', chunkFileNames: 'assets/[name].js', assetFileNames: 'assets/[name][extname]' },
    },
  },
})
cpSync(join(here, 'public'), made, { recursive: true })
copyFileSync(join(here, '../../LICENSE'), join(made, 'LICENSE'))

for (const browser of ['chrome', 'firefox']) {
  const folder = join(out, browser)
  cpSync(made, folder, { recursive: true })
  const text = (forStore) => `${JSON.stringify(manifest(browser, version, { forStore }), null, 2)}\n`
  writeFileSync(join(folder, 'manifest.json'), text(false))
  const files = new Map(filesIn(folder).map((file) => [relative(folder, file).split(sep).join('/'), readFileSync(file)]))
  files.set('manifest.json', Buffer.from(text(true)))
  writeFileSync(join(out, `hybridgw-${browser}.zip`), zip(files))
}
rmSync(made, { recursive: true })

function filesIn(folder) {
  return readdirSync(folder).sort().flatMap((name) => {
    const path = join(folder, name)
    return statSync(path).isDirectory() ? filesIn(path) : [path]
  })
}

/** A zip file with the same bytes for the same content: sorted, and dated 1980, the first year that the format knows. */
function zip(files) {
  const parts = []
  const central = []
  let offset = 0
  for (const [name, content] of [...files].sort(([one], [other]) => (one < other ? -1 : 1))) {
    const packed = deflateRawSync(content, { level: 9 })
    const path = Buffer.from(name)
    const entry = Buffer.alloc(26) // what both headers share
    entry.writeUInt16LE(20, 0) // version that can read it
    entry.writeUInt16LE(0x800, 2) // names are UTF-8
    entry.writeUInt16LE(8, 4) // deflate
    entry.writeUInt16LE(33, 8) // 1 January 1980
    entry.writeUInt32LE(crc32(content), 10)
    entry.writeUInt32LE(packed.length, 14)
    entry.writeUInt32LE(content.length, 18)
    entry.writeUInt16LE(path.length, 22)
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), entry, path, packed])
    const end = Buffer.alloc(14) // of its entry in the directory
    end.writeUInt32LE(offset, 10)
    central.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00'), entry, end, path]))
    parts.push(local)
    offset += local.length
  }
  const directory = Buffer.concat(central)
  const last = Buffer.alloc(22)
  last.write('PK\x05\x06')
  last.writeUInt16LE(files.size, 8)
  last.writeUInt16LE(files.size, 10)
  last.writeUInt32LE(directory.length, 12)
  last.writeUInt32LE(offset, 16)
  return Buffer.concat([...parts, directory, last])
}

function crc32(content) {
  let crc = -1
  for (const byte of content) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return ~crc >>> 0
}
