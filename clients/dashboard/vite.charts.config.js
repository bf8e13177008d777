// The chart library alone: the page asks for it when it is needed (src/pages/traffic.tsx). A module, since what is asked
// for later is one.
import shared from './vite.config.js'

export default {
  publicDir: false,
  plugins: shared.plugins.filter(({ name }) => name === 'newlines'),
  build: {
    target: shared.build.target,
    emptyOutDir: false,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    license: { fileName: 'licenses-charts.md' },
    lib: { entry: 'src/charts/draw.ts', formats: ['es'] },
    rolldownOptions: { output: { entryFileNames: 'assets/charts.js' } },
  },
}
