//! The commands of a page: what stands in its `sh` blocks, by heading.

/// A page's sections that have commands.
#[derive(Debug)]
pub(crate) struct Guide {
    sections: Vec<Section>,
}

/// A heading, and the blocks below it.
#[derive(Debug)]
struct Section {
    heading: String,
    blocks: Vec<Vec<String>>,
}

impl Guide {
    pub(crate) fn parse(page: &str) -> Guide {
        let mut sections: Vec<Section> = Vec::new();
        let mut in_block = false;
        for line in page.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                sections.push(Section { heading: heading.to_owned(), blocks: Vec::new() });
            } else if line == "```sh" {
                sections.last_mut().expect("a heading comes first").blocks.push(Vec::new());
                in_block = true;
            } else if line.starts_with("```") {
                in_block = false;
            } else if in_block {
                let block = sections.last_mut().and_then(|section| section.blocks.last_mut());
                block.expect("the block was begun").push(line.to_owned());
            }
        }
        Guide { sections }
    }

    /// The commands of a block, counted from 0.
    pub(crate) fn block(&self, heading: &str, index: usize) -> &[String] {
        let section = self.sections.iter().find(|section| section.heading == heading);
        let section = section.unwrap_or_else(|| panic!("the page has no section {heading:?}"));
        section.blocks.get(index).unwrap_or_else(|| panic!("{heading:?} has no block {index}"))
    }

    /// All commands.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &String> {
        self.sections.iter().flat_map(|section| section.blocks.iter().flatten())
    }
}

#[test]
fn only_blocks_of_a_shell_have_commands() {
    let guide =
        Guide::parse("# P\n## A\n```sh\none\n```\ntext\n```text\nno\n```\n```sh\ntwo\n```\n## B\n");
    assert_eq!(guide.commands().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(guide.block("A", 1), ["two"]);
}
