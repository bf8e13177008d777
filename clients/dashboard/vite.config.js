// One page, one script, one style sheet, with names that stay: the result is committed (docs/adr/0025-dashboard.md),
// so it is the same bytes wherever it is built.
const newlines = {
  name: 'newlines',
  generateBundle(_options, bundle) {
    for (const file of Object.values(bundle)) {
      if (file.type === 'chunk') file.code = `${file.code.trimEnd()}\n`
      else if (typeof file.source === 'string') file.source = `${file.source.trimEnd()}\n`
    }
  },
}

// A plain script instead of a module: a browser asks for a module with an Origin header, and the daemon takes requests
// with one only if they carry a header that no tag can set.
const plain = {
  name: 'plain',
  transformIndexHtml: {
    order: 'post',
    handler: (html) => html.replace('<script type="module" crossorigin', '<script defer').replace('<link rel="stylesheet" crossorigin', '<link rel="stylesheet"'),
  },
}

export default {
  base: '/',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  plugins: [plain, { ...newlines, enforce: 'post' }],
  build: {
    target: 'es2022',
    emptyOutDir: true,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    reportCompressedSize: false,
    license: { fileName: 'licenses.md' }, // of what is bundled
    rolldownOptions: {
      output: {
        format: 'iife',
        entryFileNames: 'assets/dashboard.js',
        chunkFileNames: 'assets/[name].js',
        assetFileNames: 'assets/dashboard[extname]',
      },
    },
  },
}
