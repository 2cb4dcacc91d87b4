Product.find_or_create_by!(name: "Carrots") { |product| product.price = 2.50 }
Product.find_or_create_by!(name: "Honey") { |product| product.price = 6 }
